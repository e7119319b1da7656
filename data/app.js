/* Lantern League: polls scores.js and feed.json, shows what changed and what it cost.
 *
 * The page decides how long its copies may live: it asks for FILE?maxage=N with N a second less than its own rhythm, so every poll
 * finds the browser's copy stale and asks the server whether it is still good. An unchanged file is a 304 without a body.
 */
(function () {
  'use strict';

  var $ = function (id) { return document.getElementById(id); };
  var PATIENCE = 5000;   // a poll that takes longer has failed
  var ASLEEP = 30;       // rhythm of a page nobody looks at, in seconds

  var scores = { name: 'scores.js', every: 3, show: showScores };
  var feed = { name: 'feed.json', every: 7, show: showFeed };
  var files = [scores, feed];

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

  // ---------------------------------------------------------------- polling

  function address(file) { return file.name + '?maxage=' + (file.every - 1); }

  function poll(file) {
    clearTimeout(file.timer);
    if (file.busy) return;
    file.busy = true;
    var stop = new AbortController();
    var clock = setTimeout(function () { stop.abort(); }, PATIENCE);
    fetch(address(file), { signal: stop.signal }).then(function (answer) {
      if (!answer.ok) throw new Error(file.name + ' answers ' + answer.status);
      return answer.text().then(function (text) {
        file.error = '';
        var stamp = Date.parse(answer.headers.get('Last-Modified') || '');
        if (text !== file.text) {
          file.show(text);
          file.text = text;
          file.changed = Date.now();
        }
        if (stamp) file.changed = stamp;   // left out while the second of the change is not over
      });
    }).catch(function (e) {
      // A failed fetch has no status: a stopped server, a cut line, or our own patience.
      file.error = / answers /.test(e.message) ? e.message : e instanceof SyntaxError ? file.name + ' cannot be read' :
        'no answer for ' + file.name;
      if (/^no answer/.test(file.error)) count('err', file.name, 0, 0);
    }).then(function () {
      clearTimeout(clock);
      file.busy = false;
      var secs = document.hidden ? Math.max(ASLEEP, file.every) : file.every;
      // A little play, so that pages opened together do not knock together; never so much that the copy were still fresh.
      secs -= Math.random() * Math.min(.06 * secs, .5);
      file.timer = setTimeout(poll, secs * 1000, file);
      if (file === scores) countdown(secs);
      showState();
    });
  }

  function countdown(secs) {
    var bar = $('countdown');
    bar.style.animation = 'none';
    void bar.offsetWidth;
    bar.style.animation = 'run ' + secs + 's linear forwards';
  }

  function showState() {
    var errors = files.map(function (f) { return f.error; }).filter(Boolean);
    var state = $('state'), cls = 'state ' + (errors.length ? 'down' : 'ok');
    var text = errors.length ? errors[0] + '; trying again' : 'up to date';
    if (state.className !== cls) state.className = cls;
    if (state.lastChild.textContent !== text) state.lastChild.textContent = text;
    if (scores.changed) {
      var when = new Date(scores.changed), today = when.toDateString() === new Date().toDateString();
      var line = 'Scores changed ' + (today ? 'at ' + hms(when) : day(when) + ', ' + hms(when));
      if ($('updated').textContent !== line) $('updated').textContent = line;
    }
  }

  function hms(d) { return [d.getHours(), d.getMinutes(), d.getSeconds()].map(function (n) { return (n < 10 ? '0' : '') + n; }).join(':'); }
  function day(d) { return d.getDate() + ' ' + 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split(' ')[d.getMonth()]; }

  function rhythm(every) {
    scores.every = every;
    feed.every = 2 * every + 1;   // out of step with the scores
    Array.prototype.forEach.call(document.querySelectorAll('[data-every]'), function (b) {
      b.setAttribute('aria-pressed', String(+b.dataset.every === every));
    });
    $('within').textContent = every + (every === 1 ? ' second' : ' seconds');
    $('asked').textContent = address(scores);
  }

  // ---------------------------------------------------------------- what it cost

  var sums = { 200: 0, 304: 0, own: 0, err: 0, taken: 0, plain: 0 };

  function count(kind, name, bytes, plain) {
    sums[kind]++;
    sums.taken += bytes;
    sums.plain += plain;
    $('n' + kind).textContent = sums[kind];
    if (kind === 'err') $('nerr').parentNode.hidden = false;
    $('taken').textContent = size(sums.taken);
    if (sums.plain > sums.taken) {
      $('spare').textContent = 'instead of ' + size(sums.plain) + ' without compression and 304: ' + Math.round(100 - 100 * sums.taken / sums.plain) + ' % less';
    }
    var bar = el('i', 's' + kind);
    bar.style.height = Math.min(100, 8 + 22 * Math.log(1 + bytes / 200)) + '%';
    bar.title = name + ' ' + kind + ', ' + size(bytes);
    var strip = $('strip');
    strip.appendChild(bar);
    if (strip.childNodes.length > 48) strip.removeChild(strip.firstChild);
    var row = el('li', 'l' + kind);
    row.appendChild(el('span', 't', hms(new Date())));
    row.appendChild(el('span', '', name));
    row.appendChild(el('span', 'st', kind));
    row.appendChild(el('span', '', size(bytes)));
    var log = $('log');
    log.insertBefore(row, log.firstChild);
    if (log.childNodes.length > 5) log.removeChild(log.lastChild);
  }

  function size(n) {
    return n < 1000 ? n + ' B' : n < 1e6 ? (n / 1000).toFixed(n < 1e5 ? 1 : 0) + ' KB' : (n / 1e6).toFixed(1) + ' MB';
  }

  // fetch() shows a revalidated copy as 200; the timing entry tells them apart: a 304 brought less than the body it stands for.
  function timed(list) {
    list.getEntries().forEach(function (e) {
      var name = e.name.split(/[?#]/)[0].split('/').pop();
      if (e.initiatorType !== 'fetch' || name !== scores.name && name !== feed.name) return;
      if (e.responseStatus >= 400) return count('err', name, e.transferSize, 0);
      if (!e.decodedBodySize) return;   // failed, counted where it failed
      var kind = e.transferSize === 0 ? 'own' : e.transferSize < Math.max(e.encodedBodySize, 301) ? '304' : '200';
      count(kind, name, e.transferSize, e.decodedBodySize + 300);
    });
    performance.clearResourceTimings();
  }

  // ---------------------------------------------------------------- scores

  var STATES = { NS: 'to come', '1H': 'live', HT: 'half-time', '2H': 'live', FT: 'full time', PP: 'Postponed' };
  var cards = {};      // id -> {root, value, goals}
  var groups = {};     // group -> {root, head, list}

  // Reads assignments, never runs them: half a line, or a slip of the keyboard, costs that line alone.
  function assignments(text) {
    var vars = {}, order = [], bad = [];
    text.replace(/^\ufeff/, '').split(/\r?\n/).forEach(function (line, i) {
      if (/^\s*(\/\/.*)?$/.test(line)) return;
      var m = /^\s*(?:var\s+)?([A-Za-z_$][\w$]*)\s*=\s*("(?:[^"\\]|\\.)*")\s*;?\s*(?:\/\/.*)?$/.exec(line), value;
      try { value = m && JSON.parse(m[2]); } catch (e) { m = null; }
      if (!m) { bad.push(i + 1); return; }
      if (!(m[1] in vars)) order.push(m[1]);
      vars[m[1]] = { value: value, line: line };
    });
    return { vars: vars, order: order, bad: bad };
  }

  function match(value) {
    var f = value.split(',').map(function (s) { return s.trim(); });
    while (f.length < 10) f.push('');
    return { home: f[0], away: f[1], goals: [f[2], f[3]], minute: f[4], state: f[5], half: f[6], ground: f[7], crowd: f[8], events: f[9] };
  }

  function showScores(text) {
    var a = assignments(text), first = scores.text === undefined, seen = {}, used = {}, example = null;
    a.order.forEach(function (name) {
      var m = /^hq_score_(([A-Za-z]*)[\w$]*)$/.exec(name);
      if (!m) return;
      var id = m[1], group = 'g' + m[2], g = groups[group] || (groups[group] = newGroup());
      var title = (a.vars['scores_group_' + m[2]] || {}).value || 'Matches';
      if (!used[group]) {
        used[group] = true;
        g.shown = [];
        if (g.title !== title) {
          g.title = title;
          var part = title.split(',');
          g.head.textContent = part[0];
          part.slice(1).forEach(function (p) { g.head.appendChild(document.createTextNode(' ')); g.head.appendChild(named(el('span'), p)); });
        }
        $('board').appendChild(g.root);
      }
      var data = match(a.vars[name].value);
      g.shown.push(card(id, a.vars[name].value, data, first));
      seen[id] = true;
      if (!example || STATES[example.data.state] !== 'live' && STATES[data.state] === 'live') example = { line: a.vars[name].line, data: data };
    });
    Object.keys(groups).forEach(function (k) {
      if (!used[k]) { groups[k].root.remove(); delete groups[k]; return; }
      // Move only what is out of place.
      groups[k].shown.forEach(function (c, i) {
        var list = groups[k].list;
        if (list.children[i] !== c) list.insertBefore(c, list.children[i] || null);
      });
    });
    Object.keys(cards).forEach(function (id) {
      if (!seen[id]) { cards[id].root.remove(); delete cards[id]; }
    });
    $('bad').hidden = !a.bad.length;
    $('bad').textContent = 'scores.js: line ' + a.bad.slice(0, 5).join(', ') + ' is not understood and left out.';
    showTicker((a.vars.scores_ticker || {}).value || '');
    if (example) showLine(example);
  }

  function newGroup() {
    var g = { root: el('section', 'group'), head: el('h2'), list: el('div', 'cards') };
    g.root.appendChild(g.head);
    g.root.appendChild(g.list);
    return g;
  }

  function card(id, value, d, first) {
    var c = cards[id] || (cards[id] = { root: el('article', 'match card') });
    if (c.value === value) return c.root;
    var before = c.goals, live = STATES[d.state] === 'live', over = d.state === 'FT';
    c.value = value;
    c.goals = d.goals;
    c.root.textContent = '';
    var head = el('header');
    var when = live || over || d.state === 'HT' ? (live ? d.minute + '\u2032' : over ? 'Full time' : 'Half-time') : d.state === 'NS' ? d.minute : STATES[d.state] || d.state;
    head.appendChild(el('span', 'when' + (live ? ' live' : d.state === 'HT' ? ' ht' : ''), when));
    head.appendChild(named(el('span'), d.ground + (+d.crowd ? ' \u00b7 ' + (+d.crowd).toLocaleString('en') : '')));
    c.root.appendChild(head);
    var up = false;
    [d.home, d.away].forEach(function (name, side) {
      var t = el('div', 'team'), score = el('span', 'goals', /^(NS|PP)$/.test(d.state) ? '\u2013' : d.goals[side]);
      if (over && +d.goals[side] < +d.goals[1 - side]) t.className += ' lost';
      if (before && +d.goals[side] > +before[side]) { up = true; score.className += ' up'; }
      var badge = named(el('span', 'badge'), Array.from(name)[0] || '?');
      badge.style.setProperty('--h', hue(name));
      badge.setAttribute('aria-hidden', 'true');
      t.appendChild(badge);
      t.appendChild(named(el('b'), name));
      t.appendChild(score);
      var ev = events(d.events, 'HA'[side]);
      if (ev) t.appendChild(ev);
      c.root.appendChild(t);
    });
    if (!first) {
      c.root.className = 'match card ' + (up ? 'goal' : 'changed');
      clearTimeout(c.timer);
      c.timer = setTimeout(function () { c.root.className = 'match card'; }, 5000);
      if (up) $('said').textContent = d.home + ' ' + d.goals[0] + ', ' + d.away + ' ' + d.goals[1];
    }
    return c.root;
  }

  function events(text, side) {
    var e = el('div', 'ev'), any = false;
    text.split(/\s+/).forEach(function (item) {
      var m = /^(\d+(?:\+\d+)?)([HA])(\d+)([por]?)$/.exec(item);
      if (!m || m[2] !== side) return;
      if (any) e.appendChild(document.createTextNode(', '));
      any = true;
      var more = { p: ' pen.', o: ' own goal', r: ' sent off', '': '' }[m[4]];
      e.appendChild(el('span', m[4] === 'r' ? 'off' : '', m[1] + '\u2032 no.\u00a0' + m[3] + more));
    });
    return any ? e : null;
  }

  function hue(name) {
    var h = 7;
    Array.from(name).forEach(function (ch) { h = (h * 31 + ch.codePointAt(0)) % 3600; });
    return h / 10;
  }

  function showTicker(value) {
    var list = $('ticker').querySelector('ul');
    if (list.dataset.value === value) return;
    list.dataset.value = value;
    list.textContent = '';
    value.split('|').forEach(function (line) {
      var m = /^\s*(\d[\d+]*)?\s*(.*)$/.exec(line), li = el('li');
      if (!m[2]) return;
      li.appendChild(el('span', '', m[1] ? m[1] + '\u2032' : ''));
      li.appendChild(el('div', '', m[2]));
      list.appendChild(li);
    });
    $('ticker').hidden = !list.firstChild;
  }

  // The line to try it with, as it stands in the file, its goals marked.
  function showLine(example) {
    var m = /^(.*?=\s*"[^,"]*,[^,"]*,)([^,"]*)(,)([^,"]*)(.*)$/.exec(example.line);
    if (!m) return;
    var code = el('code');
    [[m[1]], [m[2], 1], [m[3]], [m[4], 1], [m[5]]].forEach(function (p) {
      code.appendChild(p[1] ? el('mark', '', p[0]) : document.createTextNode(p[0]));
    });
    $('line').textContent = '';
    $('line').appendChild(code);
  }

  // ---------------------------------------------------------------- news

  var known = null;   // ids of the items shown

  function showFeed(text) {
    var doc = JSON.parse(text), box = $('news'), open = {}, ids = {};
    if (!doc || !Array.isArray(doc.items)) throw new SyntaxError('no items');
    Array.prototype.forEach.call(box.querySelectorAll('details[open]'), function (d) { open[d.dataset.id] = true; });
    var list = document.createDocumentFragment();
    doc.items.slice(0, 20).forEach(function (item) {
      var id = String(item.id), d = el('details'), s = el('summary'), at = new Date(item.date_published), time = el('time');
      ids[id] = true;
      d.dataset.id = id;
      d.open = !!open[id];
      if (known && !known[id]) d.className = 'new';
      if (!isNaN(at)) {
        time.dateTime = item.date_published;
        time.textContent = day(at) + ', ' + hms(at).slice(0, 5);
        s.appendChild(time);
      }
      s.appendChild(named(el('b'), item.title || item.summary || ''));
      d.appendChild(s);
      if (item.summary) d.appendChild(el('p', '', item.summary));
      if (item.content_text) d.appendChild(el('p', 'dim', item.content_text));
      list.appendChild(d);
    });
    box.textContent = '';
    box.appendChild(list);
    known = ids;
  }

  // ---------------------------------------------------------------- the season, once

  function showSeason(doc) {
    var body = $('season').querySelector('tbody');
    doc.table.forEach(function (r) {
      var tr = el('tr'), diff = r.goals_for - r.goals_against;
      [r.rank, r.club, r.played, r.won, r.drawn, r.lost, r.goals_for + ':' + r.goals_against, (diff > 0 ? '+' : diff < 0 ? '\u2212' : '') + Math.abs(diff), r.points].forEach(function (v, i) {
        tr.appendChild(i === 1 ? named(el('td'), v) : el('td', i === 6 ? 'wide' : '', v));
      });
      body.appendChild(tr);
    });
    $('season').hidden = false;
  }

  // ---------------------------------------------------------------- start

  if (window.PerformanceObserver) new PerformanceObserver(timed).observe({ type: 'resource', buffered: true });
  Array.prototype.forEach.call(document.querySelectorAll('[data-every]'), function (b) {
    b.addEventListener('click', function () { rhythm(+b.dataset.every); files.forEach(poll); });
  });
  document.addEventListener('visibilitychange', function () { if (!document.hidden) files.forEach(poll); });
  rhythm(3);
  files.forEach(poll);
  fetch('archive/season-2026.json?maxage=86400').then(function (r) { return r.ok ? r.json() : Promise.reject(); }).then(showSeason).catch(function () {});
})();
