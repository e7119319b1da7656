-- Asks for a list in turn, for wrk: wrk -s requests.lua URL -- FILE [DEPTH]
--
-- Each line of FILE is a path and, parted by tabs, header lines besides those of the command line. So many requests as DEPTH
-- says go out at once.

function init(args)
  local depth, list = tonumber(args[2] or "1"), {}
  for line in io.lines(args[1]) do
    local words, headers = {}, {}
    for word in line:gmatch("[^\t]+") do words[#words + 1] = word end
    for key, value in pairs(wrk.headers) do headers[key] = value end
    for at = 2, #words do
      local key, value = words[at]:match("^(.-): (.*)$")
      headers[key] = value
    end
    list[#list + 1] = wrk.format("GET", words[1], headers)
  end
  local asked = {}
  for at = 1, #list, depth do
    asked[#asked + 1] = table.concat(list, "", at, math.min(at + depth - 1, #list))
  end
  local next = 0
  function request()
    next = next % #asked + 1
    return asked[next]
  end
end

function done(summary)
  print(string.format("bytes received: %d", summary.bytes))
end
