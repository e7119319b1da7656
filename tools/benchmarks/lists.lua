-- Asks for lists, for wrk: wrk -s lists.lua URL -- PATH [SYMBOLS COUNT SEED]
--
-- PATH alone is asked for again and again. With a file of SYMBOLS it draws COUNT of them for every request, and PATH with
-- the list behind it is asked for where PATH ends in "=". Any other PATH is asked for as it is, after the same work: so the
-- client is equally fast against every server. Drawn from thousands of symbols, no list comes twice.

function init(args)
  wrk.path = args[1]
  if not args[2] then return end
  local symbols = {}
  for symbol in io.lines(args[2]) do symbols[#symbols + 1] = symbol end
  local count, drawn = tonumber(args[3]), {}
  math.randomseed(tonumber(args[4]))
  local fixed = wrk.format()
  local before, after = wrk.format("GET", args[1] .. "@"):match("^([^@]*)@(.*)$")
  local lists = args[1]:sub(-1) == "="
  function request()
    for at = 1, count do drawn[at] = symbols[math.random(#symbols)] end
    local list = before .. table.concat(drawn, ",") .. after
    return lists and list or fixed
  end
end

function done(summary)
  print(string.format("bytes received: %d", summary.bytes))
end
