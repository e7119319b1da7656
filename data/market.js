/* Lantern Exchange: polls its quotes, shows what moved and what it cost.
 *
 * All symbols of the page are one address, /list=A,B,C, so all prices in an answer are of one moment. The script keeps the last
 * answer's ETag and asks with If-None-Match itself: a market at rest costs a 304 without a body. maxage tells caches between the
 * browser and the server how long a copy may live: a second less than the rhythm, so that no poll meets an old one.
 */
(function () {
  'use strict';

  var INDICES = ['ln000001', 'ln000050', 'md399001'];
  var SHARES = ('ln600101 ln600108 ln600113 ln600127 ln600136 ln600142 ln600158 ln600160 ln600177 ln600189 ln600203 ln600211 ln600226 ' +
    'ln600238 ln600245 ln600259 md000012 md000025 md000038 md000041 md000057 md000063 md000076 md000084').split(' ');
  var SYMBOLS = INDICES.concat(SHARES);

  var PATIENCE = 5000;   // a poll that takes longer has failed
  var ASLEEP = 30;       // rhythm of a page nobody looks at, in seconds
  var FLASH = 900;       // how long a new price is lit, in milliseconds
  var POINTS = 60;       // of a graph
  var FEW = 12;          // points with which a graph needs its opening no more

  var $ = function (id) { return document.getElementById(id); };
  var each = function (selector, f) { Array.prototype.forEach.call(document.querySelectorAll(selector), f); };

  function el(tag, cls, text) {
    var e = document.createElement(tag);
    if (cls) e.className = cls;
    if (text !== undefined) e.textContent = text;
    return e;
  }

  // A name in Han characters says so, for fonts and for voices.
  function named(e, text) {
    e.textContent = text;
    if (/[\u3400-\u9fff]/.test(text)) e.lang = 'zh'; else e.removeAttribute('lang');
    return e;
  }

  function put(e, text) { if (e.textContent !== text) e.textContent = text; }
  function press(group, value) { each('button[data-' + group + ']', function (b) { b.setAttribute('aria-pressed', String(b.dataset[group] === value)); }); }

  // ---------------------------------------------------------------- polling

  var every = 1, timer, busy = false, tag = '', stamp = '', last = 0;

  function address() { return '/list=' + SYMBOLS.join(',') + '?maxage=' + (every - 1); }

  function poll() {
    clearTimeout(timer);
    if (busy) return;
    busy = true;
    var stop = new AbortController();
    var clock = setTimeout(function () { stop.abort(); }, PATIENCE);
    var headers = tag ? { 'If-None-Match': tag } : stamp ? { 'If-Modified-Since': stamp } : {};
    fetch(address(), { headers: headers, cache: 'no-store', signal: stop.signal }).then(function (answer) {
      if (answer.status !== 200 && answer.status !== 304) throw new Error('the server answers ' + answer.status);
      return answer.arrayBuffer().then(function (body) { take(answer, body); });
    }).then(function () { return ''; }, function (e) {
      // A failed fetch has no status: a stopped server, a cut line, or our own patience.
      count('err', 'failed', 0);
      return /^the /.test(e.message) ? e.message : 'no answer from the server';
    }).then(function (error) {
      clearTimeout(clock);
      busy = false;
      // A little play, so that pages opened together do not knock together.
      var secs = (document.hidden ? Math.max(ASLEEP, every) : every) * (1 - Math.random() * .05);
      timer = setTimeout(poll, secs * 1000);
      countdown(secs);
      $('state').className = 'state ' + (error ? 'down' : 'ok');
      put($('state').lastChild, error ? error + '; trying again' : 'up to date');
      document.querySelector('main').classList.toggle('stale', !!error);
    });
  }

  function take(answer, body) {
    var head = headSize(answer);
    if (answer.status === 304) {
      sums.kept += last;
      return count('304', 'nothing moved', head);
    }
    var charset = /charset=([\w-]+)/.exec(answer.headers.get('Content-Type') || '');
    var first = !last, moved = show(quotes(new TextDecoder(charset ? charset[1] : 'utf-8').decode(body)));
    // Of what is compressed, Content-Length is the compressed length.
    last = +(answer.headers.get('Content-Length') || body.byteLength);
    sums.zip += Math.max(0, body.byteLength - last);
    tag = answer.headers.get('ETag') || '';
    stamp = answer.headers.get('Last-Modified') || '';
    count('200', first ? SYMBOLS.length + ' quotes' : moved + ' moved', head + last);
  }

  function headSize(answer) {
    var size = ('HTTP/1.1 ' + answer.status + (answer.status === 304 ? ' Not Modified' : ' OK')).length + 4;
    answer.headers.forEach(function (value, name) { size += name.length + value.length + 4; });
    return size;
  }

  function countdown(secs) {
    var bar = $('countdown');
    bar.style.animation = 'none';
    void bar.offsetWidth;
    bar.style.animation = 'run ' + secs + 's linear forwards';
  }

  function rhythm(secs) {
    every = secs;
    press('every', String(secs));
    $('within').textContent = secs + (secs === 1 ? ' second' : ' seconds');
    $('asked').textContent = '/list=' + SYMBOLS[0] + ',\u2026,' + SYMBOLS[SYMBOLS.length - 1] + '?maxage=' + (secs - 1);
  }

  // ---------------------------------------------------------------- what it cost

  var sums = { 200: 0, 304: 0, err: 0, taken: 0, kept: 0, zip: 0 };

  function count(kind, what, bytes) {
    sums[kind]++;
    sums.taken += bytes;
    $('n' + kind).textContent = sums[kind];
    if (kind === 'err') $('nerr').parentNode.hidden = false;
    var whole = sums.taken + sums.kept + sums.zip;
    $('taken').textContent = size(sums.taken);
    if (whole > sums.taken) $('spare').textContent = 'instead of ' + size(whole) + ': ' + Math.floor(100 - 100 * sums.taken / whole) + ' % less';
    [['taken', sums.taken], ['304', sums.kept], ['zip', sums.zip]].forEach(function (part) {
      $('share-' + part[0]).style.width = 100 * part[1] / Math.max(1, whole) + '%';
      $('sum-' + part[0]).textContent = size(part[1]);
    });
    var bar = el('i', 's' + kind);
    bar.style.height = Math.min(100, 8 + 22 * Math.log(1 + bytes / 200)) + '%';
    bar.title = kind + ', ' + size(bytes);
    var strip = $('strip');
    strip.appendChild(bar);
    if (strip.childNodes.length > 48) strip.removeChild(strip.firstChild);
    var row = el('li', 'l' + kind);
    row.appendChild(el('span', 't', hms(new Date())));
    row.appendChild(el('span', '', what));
    row.appendChild(el('span', 'st', kind));
    row.appendChild(el('span', '', size(bytes)));
    var log = $('log');
    log.insertBefore(row, log.firstChild);
    if (log.childNodes.length > 5) log.removeChild(log.lastChild);
  }

  function size(n) {
    return n < 1000 ? n + ' B' : n < 1e6 ? (n / 1000).toFixed(n < 1e5 ? 1 : 0) + ' KB' : (n / 1e6).toFixed(1) + ' MB';
  }

  function hms(d) { return [d.getHours(), d.getMinutes(), d.getSeconds()].map(function (n) { return (n < 10 ? '0' : '') + n; }).join(':'); }

  // ---------------------------------------------------------------- quotes

  // Reads the statements, never runs them. Line i answers symbol i, whatever the server puts before its name.
  function quotes(text) {
    var lines = text.replace(/^\ufeff/, '').split(/\r?\n/), found = {};
    SYMBOLS.forEach(function (symbol, i) {
      var m = /^var [\w$]+="((?:[^"\\]|\\.)*)";$/.exec(lines[i] || '');
      if (!m || lines[i].slice(4, lines[i].indexOf('=')).slice(-symbol.length) !== symbol) throw new Error('the answer cannot be read');
      found[symbol] = quote(unescaped(m[1]));
    });
    return found;
  }

  var LETTERS = { n: '\n', r: '\r', t: '\t', b: '\b', f: '\f', v: '\v', 0: '\0' };

  function unescaped(text) {
    return text.replace(/\\(?:u([\da-fA-F]{4})|x([\da-fA-F]{2})|([^]))/g, function (_, u, x, one) {
      return one !== undefined ? one in LETTERS ? LETTERS[one] : one : String.fromCharCode(parseInt(u || x, 16));
    });
  }

  // An unknown symbol is an empty string, a company that is not traded has no price: both are null.
  function quote(value) {
    var f = value.split(','), n = function (i) { return parseFloat(f[i]) || 0; };
    if (f.length < 32 || !(n(3) > 0)) return null;
    var levels = function (from) { return [0, 2, 4, 6, 8].map(function (i) { return { lots: Math.round(n(from + i) / 100), price: n(from + i + 1) }; }); };
    return {
      value: value, name: f[0], open: n(1), previous: n(2), price: n(3), high: n(4), low: n(5), amount: n(9),
      bids: levels(10), asks: levels(20), when: f[30] + ' ' + f[31]
    };
  }

  function change(q) { return q.price - q.previous; }
  function percent(q) { return q.previous ? 100 * change(q) / q.previous : 0; }
  function way(n) { return n > 0 ? 'gain' : n < 0 ? 'loss' : ''; }
  function signed(n, places) { return (n > 0 ? '+' : n < 0 ? '\u2212' : '') + money(Math.abs(n), places); }
  function money(n, places) { return n.toLocaleString('en', { minimumFractionDigits: places, maximumFractionDigits: places }); }
  function large(n) { return n >= 1e9 ? money(n / 1e9, 2) + ' bn' : n >= 1e6 ? money(n / 1e6, 1) + ' m' : money(n, 0); }
  // Thousandths are written where there are any.
  function price(n) { return money(n, Math.abs(n * 100 - Math.round(n * 100)) > 1e-3 ? 3 : 2); }

  // ---------------------------------------------------------------- the page

  var rows = {};          // symbol -> its elements, its quote, the points of its graph
  var order = 'listed';
  var open = SHARES[0];   // whose book is shown

  function show(all) {
    var moved = 0, when = '', up = 0, down = 0;
    SYMBOLS.forEach(function (symbol) {
      var row = rows[symbol] || (rows[symbol] = INDICES.indexOf(symbol) < 0 ? newShare(symbol) : newIndex(symbol));
      var q = all[symbol], before = row.quote;
      if (q && q.when > when) when = q.when;
      if (q && SHARES.indexOf(symbol) >= 0) { up += change(q) > 0; down += change(q) < 0; }
      if (row.seen && (q && q.value) === (before && before.value)) return;
      moved += row.seen ? 1 : 0;
      row.seen = true;
      row.quote = q;
      if (!q) return row.blank();
      if (!row.points) row.points = [q.open];
      row.points.push(q.price);
      if (row.points.length > POINTS || row.points.length === FEW) row.points.shift();
      row.fill(q);
      draw(row);
      if (before && q.price !== before.price) flash(row.cell, q.price > before.price);
    });
    if (when) put($('updated'), 'Prices of ' + when);
    var breadth = $('breadth');
    breadth.textContent = '';
    breadth.appendChild(el('span', 'gain', up + ' up'));
    breadth.appendChild(el('span', 'loss', down + ' down'));
    if (SHARES.length > up + down) breadth.appendChild(el('span', 'dim', (SHARES.length - up - down) + ' unchanged'));
    arrange();
    showDepth();
    showLine();
    return moved;
  }

  // The arrow stays until the price moves the other way, the light goes out.
  function flash(cell, rose) {
    cell.classList.remove('rose', 'fell', 'flash');
    void cell.offsetWidth;
    cell.classList.add(rose ? 'rose' : 'fell', 'flash');
    clearTimeout(cell.timer);
    cell.timer = setTimeout(function () { cell.classList.remove('flash'); }, FLASH);
  }

  function newIndex(symbol) {
    var root = el('article', 'index card'), head = el('h3'), name = el('span'), cell = el('p', 'price value'), span = el('span'), text = el('b'), moved = el('p', 'moved');
    head.appendChild(name);
    head.appendChild(el('code', '', symbol));
    span.appendChild(text);
    span.appendChild(el('i'));
    cell.appendChild(span);
    [head, cell, moved].forEach(function (e) { root.appendChild(e); });
    $('indices').appendChild(root);
    var row = { root: root, cell: cell };
    graph(row, root, 160, 52);
    row.fill = function (q) {
      named(name, q.name);
      text.textContent = price(q.price);
      moved.className = 'moved ' + way(change(q));
      moved.textContent = signed(change(q), 2) + '\u2002' + signed(percent(q), 2) + ' %';
    };
    row.blank = function () { put(name, symbol); put(text, '\u2013'); put(moved, 'not quoted'); };
    return row;
  }

  function newShare(symbol) {
    var tr = el('tr'), who = el('button', 'who'), name = el('b'), cell = el('td', 'price'), span = el('span'), text = el('b'), pill = el('span', 'pill');
    var tds = { who: el('td'), graph: el('td', 'graph'), price: cell, change: el('td', 'wide'), range: el('td', 'mid'), amount: el('td', 'wide'), percent: el('td') };
    who.type = 'button';
    who.appendChild(name);
    who.appendChild(el('code', '', symbol));
    tds.who.appendChild(who);
    span.appendChild(text);
    span.appendChild(el('i'));
    cell.appendChild(span);
    tds.percent.appendChild(pill);
    Object.keys(tds).forEach(function (key) { tr.appendChild(tds[key]); });
    tr.id = symbol;
    tr.addEventListener('click', function () { open = symbol; showDepth(); showLine(); });
    $('shares').appendChild(tr);
    var row = { root: tr, cell: cell };
    graph(row, tds.graph, 88, 30);
    row.fill = function (q) {
      named(name, q.name);
      text.textContent = price(q.price);
      tds.change.textContent = signed(change(q), 2);
      tds.change.className = 'wide ' + way(change(q));
      tds.range.textContent = price(q.low) + ' \u2013 ' + price(q.high);
      tds.amount.textContent = large(q.amount);
      pill.textContent = signed(percent(q), 2);
      pill.className = 'pill ' + way(change(q));
    };
    row.blank = function () {
      put(name, symbol);
      [text, tds.change, tds.range, tds.amount, pill].forEach(function (e) { put(e, '\u2013'); });
    };
    return row;
  }

  // Rows by the order that was chosen. Moves only what is out of place.
  function arrange() {
    var by = {
      listed: function () { return 0; },
      up: function (q) { return -percent(q); },
      down: percent,
      traded: function (q) { return -q.amount; }
    }[order];
    var sorted = SHARES.map(function (symbol, i) { var q = rows[symbol] && rows[symbol].quote; return { at: i, symbol: symbol, key: q ? by(q) : Infinity }; });
    if (order !== 'listed') sorted.sort(function (a, b) { return a.key < b.key ? -1 : a.key > b.key ? 1 : a.at - b.at; });
    sorted.forEach(function (item, i) {
      var row = rows[item.symbol], body = $('shares');
      if (row && body.children[i] !== row.root) body.insertBefore(row.root, body.children[i] || null);
    });
  }

  // ---------------------------------------------------------------- graphs

  function svg(tag, cls) {
    var e = document.createElementNS('http://www.w3.org/2000/svg', tag);
    if (cls) e.setAttribute('class', cls);
    return e;
  }

  function graph(row, parent, width, height) {
    var root = svg('svg', 'spark');
    root.setAttribute('viewBox', '0 0 ' + width + ' ' + height);
    root.setAttribute('preserveAspectRatio', 'none');
    root.setAttribute('aria-hidden', 'true');
    row.graph = { root: root, base: svg('path', 'base'), area: svg('path', 'area'), walk: svg('path', 'walk'), width: width, height: height };
    ['base', 'area', 'walk'].forEach(function (part) { root.appendChild(row.graph[part]); });
    parent.appendChild(root);
  }

  // The points are the prices this page has seen, at first the opening too. The previous close is dashed, where it is near.
  function draw(row) {
    var g = row.graph, q = row.quote, low = Math.min.apply(null, row.points), high = Math.max.apply(null, row.points), room = high - low || .01;
    var near = q.previous > low - room && q.previous < high + room;
    if (near) { low = Math.min(low, q.previous); high = Math.max(high, q.previous); }
    var y = function (value) { return (g.height - 3 - (g.height - 6) * (high > low ? (value - low) / (high - low) : .5)).toFixed(1); };
    var step = g.width / Math.max(1, row.points.length - 1);
    var line = row.points.map(function (value, i) { return (i * step).toFixed(1) + ' ' + y(value); }).join('L');
    g.root.setAttribute('class', 'spark ' + way(change(q)));
    g.walk.setAttribute('d', 'M' + line);
    g.area.setAttribute('d', 'M' + line + 'V' + g.height + 'H0z');
    g.base.setAttribute('d', near ? 'M0 ' + y(q.previous) + 'H' + g.width : '');
  }

  // ---------------------------------------------------------------- the book, and the line to try it with

  function showDepth() {
    var q = rows[open] && rows[open].quote, body = $('depth').tBodies[0];
    SHARES.forEach(function (symbol) { if (rows[symbol]) rows[symbol].root.classList.toggle('open', symbol === open); });
    body.textContent = '';
    named($('depth-name'), q ? q.name : open);
    if (!q) return;
    var most = Math.max.apply(null, q.bids.concat(q.asks).map(function (level) { return level.lots; })) || 1;
    var add = function (side, level, i) {
      var tr = el('tr', side + (side === 'bids' && i === 0 ? ' best' : '')), lots = el('td'), bar = el('u');
      tr.appendChild(el('td', '', (side === 'asks' ? 'ask ' : 'bid ') + (i + 1)));
      tr.appendChild(el('td', way(level.price - q.previous), level.price ? price(level.price) : '\u2013'));
      bar.style.width = 100 * level.lots / most + '%';
      lots.appendChild(bar);
      lots.appendChild(document.createTextNode(money(level.lots, 0)));
      tr.appendChild(lots);
      body.appendChild(tr);
    };
    q.asks.map(function (level, i) { return [level, i]; }).reverse().forEach(function (pair) { add('asks', pair[0], pair[1]); });
    q.bids.forEach(function (level, i) { add('bids', level, i); });
  }

  // As it stands in the table, its price marked.
  function showLine() {
    var q = rows[open] && rows[open].quote;
    if (!q) return;
    var f = q.value.split(','), code = el('code');
    code.appendChild(document.createTextNode(open + '=' + f.slice(0, 3).join(',') + ','));
    code.appendChild(el('mark', '', f[3]));
    code.appendChild(document.createTextNode(',' + f.slice(4, 8).join(',') + ',\u2026'));
    $('line').textContent = '';
    $('line').appendChild(code);
  }

  // ---------------------------------------------------------------- start

  function rise(colour) {
    document.documentElement.dataset.rise = colour;
    press('rise', colour);
  }

  function chosen() {
    try { return localStorage.getItem('rise'); } catch (e) { return null; }   // a browser that keeps nothing
  }

  each('button[data-every]', function (b) { b.addEventListener('click', function () { rhythm(+b.dataset.every); poll(); }); });
  each('button[data-order]', function (b) { b.addEventListener('click', function () { order = b.dataset.order; press('order', order); arrange(); }); });
  each('button[data-rise]', function (b) {
    b.addEventListener('click', function () {
      rise(b.dataset.rise);
      try { localStorage.setItem('rise', b.dataset.rise); } catch (e) { /* it lasts as long as the page */ }
    });
  });
  document.addEventListener('visibilitychange', function () { if (!document.hidden) poll(); });
  rise(chosen() === 'red' || chosen() === 'green' ? chosen() : /^(zh|ja|ko)\b/.test(navigator.language) ? 'red' : 'green');
  rhythm(1);
  poll();
})();
