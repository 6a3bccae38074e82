// Draws the charts of a report with Observable Plot, and lets a reader choose views and colours.
"use strict";
(() => {
  const SYMBOLS = ["circle", "square", "diamond", "triangle", "cross", "star", "hexagon"];
  const LETTER = 6.7; // pixels of a letter below a chart's axes
  const font = { fontSize: "12px", fontFamily: "inherit", background: "transparent" };

  const tone = (number) => `var(--tone-${number === null ? "grey" : number})`;
  const counted = (axis) => (value) => // "1.5 M", or with a unit "1.5 mJ"
    value === 0 ? "0" : d3.format(".3~s")(value).replace(/([kMGTmµnp]?)$/, " $1") + axis.unit;
  const shortened = (text, room) =>
    text.length <= room ? text : `…${text.slice(text.length - Math.max(1, room - 1))}`;

  function interval(ends) {
    return ends ? ` (${ends[0].toFixed(1)} – ${ends[1].toFixed(1)})` : "";
  }

  // What a chart's lines consist of, without the places where there is no number.
  function pointsOf(chart) {
    return chart.series.flatMap((series, index) =>
      series.values.flatMap((y, i) =>
        y === null ? [] : [{
          index, y, x: series.at[i], tone: tone(series.tone), ends: series.intervals[i],
          grey: series.tone === null,
          title: `${series.label}\n${chart.x.symbol || chart.x.label} = ${series.places[i]}: ` +
            series.texts[i] + interval(series.intervals[i]),
        }]));
  }

  // The places whose labels have room below the axis; the last one stays.
  function ticksOf(points, width, log) {
    const places = [...new Set(points.map((point) => point.x))].sort((a, b) => a - b);
    const at = (x) => (log ? Math.log(x) : x);
    const span = at(places[places.length - 1]) - at(places[0]) || 1;
    const kept = [];
    for (const place of places.reverse())
      if (!kept.length || ((at(kept[0]) - at(place)) / span) * (width - 70) > 30)
        kept.unshift(place);
    return kept;
  }

  function domainOf(chart, points) {
    const values = points.flatMap((point) => [point.y, ...(point.ends || [])]);
    const [low, high] = d3.extent(values.concat(chart.levels.map((level) => level.value)));
    const room = (high - low || Math.abs(high) || 1) * 0.06;
    const bounds = chart.y.bounds || [-Infinity, Infinity];
    return [Math.max(bounds[0], low - room), Math.min(bounds[1], high + room)];
  }

  function ruleX(moment, last) {
    const left = moment.value > 0.75 * last; // of its line, where there is no room right of it
    const shown = { text: "label", frameAnchor: "top", textAnchor: left ? "end" : "start",
                    dx: left ? -5 : 5, dy: -3, stroke: "var(--paper)", strokeWidth: 4 };
    return [Plot.ruleX([moment], { x: "value", stroke: "var(--muted)", strokeDasharray: "2 3" }),
            Plot.text([moment], { x: "value", fill: "var(--muted)", ...shown })];
  }

  function lines(chart, width) {
    const points = pointsOf(chart);
    const log = chart.x.scale === "log2" && points.every((point) => point.x > 0);
    const places = d3.groups(points, (point) => point.index);
    const dense = d3.max(places, ([, own]) => own.length) > 40;
    const single = places.length > 0 && new Set(points.map((point) => point.x)).size === 1;
    const banded = points.filter((point) => point.ends);
    const behind = chart.line ? chart.line.values.map((y, i) => ({ x: chart.line.at[i], y })) : [];
    const beside = (index) => (single ? 10 * (index - (places.length - 1) / 2) : 0); // pixels
    const x = chart.x.counts
      ? { ticks: width < 500 ? 2 : 6, tickFormat: counted(chart.x) }
      : { ticks: dense && !log ? undefined : ticksOf(points, width, log), tickFormat: String };
    return Plot.plot({
      width, height: chart.low || single ? 240 : width < 500 ? 270 : 330, style: font,
      marginLeft: 46, marginRight: 18, marginTop: 26, marginBottom: 38,
      x: { type: log ? "log" : "linear", base: chart.x.counts ? 10 : 2, label: chart.x.label,
           labelAnchor: "center", labelArrow: "none", inset: 8, ...x },
      y: { domain: domainOf(chart, points), label: chart.y.label, labelArrow: "none", grid: true,
           ticks: 6, nice: false },
      symbol: { domain: d3.range(7), range: SYMBOLS },
      marks: [
        Plot.areaY(banded, { x: "x", y1: (d) => d.ends[0], y2: (d) => d.ends[1], z: "index",
                             fill: "tone", fillOpacity: 0.14 }),
        ...chart.levels.flatMap((level) => levelY(level)),
        ...chart.moments.flatMap((moment) => ruleX(moment, d3.max(points, (point) => point.x))),
        Plot.line(behind, { x: "x", y: "y", stroke: "var(--rule)", strokeWidth: 5,
                            curve: "step-after" }),
        ...places.map(([index, own]) => Plot.line(own, {
          x: "x", y: "y", stroke: own[0].tone, strokeWidth: own[0].grey ? 1 : 2,
          strokeDasharray: ["none", "2 3", "7 3 2 3"][Math.floor(index / SYMBOLS.length) % 3] })),
        ...places.flatMap(([index, own]) => [
          single ? Plot.ruleX(own.filter((point) => point.ends), {
            x: "x", y1: (d) => d.ends[0], y2: (d) => d.ends[1], stroke: "tone", strokeWidth: 1.6,
            dx: beside(index) }) : null,
          dense || own[0].grey ? null : Plot.dot(own, {
            x: "x", y: "y", fill: "tone", r: 3.6, dx: beside(index),
            symbol: (d) => d.index % SYMBOLS.length })]),
        Plot.tip(points, Plot.pointer({ x: "x", y: "y", title: "title", ...tip })),
      ],
    });
  }

  const tip = { fill: "var(--raised)", stroke: "var(--rule)", fontSize: 12, textPadding: 8 };

  function levelY(level) {
    const stroke = level.tone === null ? "var(--muted)" : tone(level.tone);
    const shown = { y: "value", fill: stroke, frameAnchor: "left", dx: 6, dy: -8, text: "label" };
    return [Plot.ruleY([level], { y: "value", stroke, strokeDasharray: "5 4", strokeWidth: 1.3 }),
            Plot.text([level], { ...shown, textAnchor: "start", stroke: "var(--paper)", strokeWidth: 4 })];
  }

  function bars(chart, width) {
    const longest = d3.max(chart.rows, (name) => name.length) || 1;
    const left = Math.min(longest * LETTER + 16, width * 0.42);
    const name = (row) => shortened(chart.rows[row], Math.floor((left - 14) / LETTER));
    const parts = chart.series.flatMap((series, index) =>
      series.values.flatMap((value, row) => value === null ? [] : [{
        index, row, tone: tone(series.tone), x1: series.starts[row], x2: series.starts[row] + value,
        title: `${chart.rows[row]}\n${series.label}: ${series.texts[row]}`,
      }]));
    const line = (chart.line ? chart.line.values : []).flatMap((x, row) =>
      x === null ? [] : [{ x, row }]);
    const beside = chart.stacked ? 1 : chart.series.length; // bars of a row below one another
    const high = Math.max(21, 10 * beside + 8);
    const inset = (index) => (beside > 1 ? (high * 0.72 * index) / beside : 0);
    const named = chart.levels.some((level) => level.label);
    return Plot.plot({
      width, height: chart.rows.length * high + 58, style: font,
      marginLeft: left, marginRight: 20, marginTop: named ? 22 : 8, marginBottom: 40,
      x: { label: chart.y.label, labelAnchor: "center", labelArrow: "none", grid: true, nice: true,
           zero: !line.length, ticks: width > 500 ? 8 : chart.y.counts ? 2 : 4,
           tickFormat: chart.y.counts ? counted(chart.y) : undefined },
      y: { type: "band", domain: d3.range(chart.rows.length), tickFormat: name, label: null,
           tickSize: 0, padding: 0.28 },
      marks: [
        ...d3.groups(parts, (part) => part.index).map(([index, own]) => Plot.rect(own, {
          x1: "x1", x2: "x2", y: "row", fill: "tone", insetTop: inset(index),
          insetBottom: beside > 1 ? inset(beside - 1 - index) : 0 })),
        ...chart.levels.flatMap((level) => [
          Plot.ruleX([level.value], { stroke: "var(--ink)" }),
          Plot.text([level], { x: "value", text: "label", frameAnchor: "top", dy: -9, dx: 4,
                               textAnchor: "start", fill: "var(--muted)" })]),
        Plot.line(line, { x: "x", y: "row", stroke: "var(--ink)", strokeWidth: 1.6 }),
        Plot.dot(line, { x: "x", y: "row", fill: "var(--ink)", r: 2.2 }),
        Plot.tip(parts, Plot.pointer({ x: (d) => (d.x1 + d.x2) / 2, y: "row", title: "title",
                                       ...tip })),
      ],
    });
  }

  function draw(place) {
    const width = Math.floor(place.clientWidth);
    if (!width || place.drawn === width) return; // hidden, or as it is
    place.drawn = width;
    place.data ??= JSON.parse(place.nextElementSibling.textContent);
    place.replaceChildren((place.data.kind === "bars" ? bars : lines)(place.data, width));
  }

  function follow(places) {
    const watch = new ResizeObserver((entries) => entries.forEach((entry) => draw(entry.target)));
    places.forEach((place) => { draw(place); watch.observe(place); });
  }

  function choose(choice) {
    const chooser = choice.querySelector(":scope > .chooser");
    if (!chooser) return;
    const views = [...choice.querySelectorAll(":scope > .view")];
    const select = chooser.querySelector("select");
    const told = choice.querySelector(":scope > [aria-live]");
    const show = () => views.forEach((view, place) => { view.hidden = place !== select.selectedIndex; });
    select.addEventListener("change", () => {
      show();
      told.textContent = `Shown: ${select.value}`;
    });
    chooser.hidden = false;
    choice.classList.add("choosing");
    show();
  }

  function colours(button) {
    const root = document.documentElement;
    const system = matchMedia("(prefers-color-scheme: dark)");
    const dark = () => (root.dataset.theme ? root.dataset.theme === "dark" : system.matches);
    const tell = () => { button.textContent = dark() ? "Light colours" : "Dark colours"; };
    button.addEventListener("click", () => {
      root.dataset.theme = dark() ? "light" : "dark";
      tell();
    });
    system.addEventListener("change", tell);
    button.hidden = false;
    tell();
  }

  // The entry of the contents whose section is being read.
  function contents(links) {
    const seen = new Map(links.map((link) => [document.getElementById(link.hash.slice(1)), link]));
    const watch = new IntersectionObserver((entries) => {
      for (const entry of entries) {
        if (!entry.isIntersecting) continue;
        links.forEach((link) => link.removeAttribute("aria-current"));
        seen.get(entry.target).setAttribute("aria-current", "true");
      }
    }, { rootMargin: "-15% 0px -75% 0px" });
    seen.forEach((_, section) => section && watch.observe(section));
  }

  document.querySelectorAll(".choice").forEach(choose);
  follow(document.querySelectorAll(".plot"));
  contents([...document.querySelectorAll("nav.contents a")]);
  document.querySelectorAll("button.colours").forEach(colours);
})();
