"use strict";
/* The page: reads the report's data, draws charts and images, and lets the reader sort, filter and switch. Names from
   the data reach the document by textContent and setAttribute only, never as HTML. */
(() => {
  const report = JSON.parse(document.getElementById("report-data").textContent);
  const find = (selector, inside = document) => inside.querySelector(selector);
  const all = (selector, inside = document) => [...inside.querySelectorAll(selector)];
  const make = (tag, attributes = {}, ...children) => {
    const element = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
    element.append(...children);
    return element;
  };
  const partAt = (place) => {
    const [outer, inner] = place.split("-").map(Number);
    return report.sections[outer].parts[inner].value;
  };
  const number = (value) => (value === null || value === undefined ? "–" : value.toFixed(3));

  /* ---- colours ---- */
  const probe = make("span", { hidden: "" });
  document.body.append(probe);
  const themed = (name) => {
    probe.style.color = `var(${name})`;
    return getComputedStyle(probe).color;
  };
  const DASHES = [[], [7, 3], [2, 3], [9, 3, 2, 3]];
  const styleOf = (series, place) => {
    const number = series.color ?? place;
    return { color: `--c${number % 8}`, dash: series.dashed ? DASHES[1] : DASHES[Math.floor(number / 8) % DASHES.length] };
  };
  const MISTAKES = ["#e69f00", "#56b4e9", "#f0e442", "#cc79a7", "#d55e00", "#0072b2", "#ffffff", "#999999"];
  const RIGHT = "#2fd08a";
  const names = [...report.classes];
  const hue = (name) => {
    if (!names.includes(name)) names.push(name);
    const given = report.class_colors[names.indexOf(name)];
    if (/^#[0-9a-f]{6}$/i.test(given)) return given;
    return `hsl(${(25 + names.indexOf(name) * 222.5) % 360} 90% 62%)`; /* a golden angle apart */
  };

  /* ---- what can be filtered ---- */
  const classes = new Set(report.classes);
  const mistakes = new Set();
  let scored = false;
  for (const section of report.sections) {
    for (const { kind, value } of section.parts) {
      if (kind === "table") {
        value.columns.forEach((column, place) => {
          if (column.kind === "score") scored = true;
          if (column.kind !== "class" && column.kind !== "mistake") return;
          for (const row of value.rows) if (row[place]) (column.kind === "class" ? classes : mistakes).add(String(row[place]));
        });
      } else if (kind === "chart") {
        for (const series of value.series) if (series.class_name) classes.add(series.class_name);
      } else if (kind === "gallery") {
        for (const card of value.cards) {
          card.class_names.forEach((name) => classes.add(name));
          card.mistakes.forEach((name) => mistakes.add(name));
          for (const box of card.boxes) {
            classes.add(box.class_name);
            if (box.mistake) mistakes.add(box.mistake);
            if (box.score !== null) scored = true;
          }
        }
      }
    }
  }
  const mistakeList = [...mistakes].sort();
  const mistakeColour = (name) => (name ? MISTAKES[mistakeList.indexOf(name) % MISTAKES.length] : RIGHT);
  const filters = { class: "", mistake: "", score: report.score_threshold };
  const form = find("#filters");
  const listeners = [];

  const fill = (select, values) => {
    for (const value of values) {
      const option = make("option");
      option.value = value;
      option.textContent = value;
      select.append(option);
    }
    if (!values.length) select.parentElement.hidden = true;
  };
  fill(find("#filter-class"), [...classes].filter(Boolean));
  fill(find("#filter-mistake"), mistakeList);
  find("#filter-score").parentElement.hidden = !scored;
  form.hidden = !classes.size && !mistakes.size && !scored;
  for (const label of all("label[hidden]", form)) label.style.display = "none";

  const apply = () => {
    filters.class = find("#filter-class").value;
    filters.mistake = find("#filter-mistake").value;
    filters.score = Number(find("#filter-score").value);
    find("#score-value").textContent = filters.score.toFixed(2);
    for (const listen of listeners) listen();
    const cards = all(".cards > li");
    const left = cards.filter((card) => !card.hidden).length;
    find("#shown").textContent = cards.length ? `${left} of ${cards.length} images` : "";
    for (const heading of all(".matrix th[data-class]")) {
      heading.classList.toggle("dim", Boolean(filters.class) && heading.dataset.class !== filters.class);
    }
  };
  let waiting = false; /* a slider moves more often than a screen is drawn */
  form.addEventListener("input", () => {
    if (waiting) return;
    waiting = true;
    requestAnimationFrame(() => {
      waiting = false;
      apply();
    });
  });
  form.addEventListener("reset", () => setTimeout(apply));
  form.addEventListener("submit", (event) => event.preventDefault());

  /* ---- tables: DataTables sorts and searches what stands in the page ---- */
  for (const table of all("table.sortable")) {
    const part = partAt(table.dataset.place);
    const many = part.rows.length > 25;
    const enhanced = new DataTable(table, {
      order: [],
      paging: many,
      pageLength: 25,
      lengthChange: false,
      autoWidth: false,
      layout: { topStart: null, topEnd: part.rows.length > 8 ? "search" : null, bottomStart: many ? "info" : null, bottomEnd: many ? "paging" : null },
      columnDefs: part.columns.map((column, place) => ({
        targets: place,
        type: ["text", "class", "mistake"].includes(column.kind) ? "string" : "num",
        orderSequence: ["text", "class", "mistake"].includes(column.kind) ? ["asc", "desc"] : ["desc", "asc"],
      })),
    });
    const passes = (row) =>
      part.columns.every((column, place) => {
        const cell = row[place];
        if (column.kind === "class") return !filters.class || cell === null || cell === filters.class;
        if (column.kind === "mistake") return !filters.mistake || cell === filters.mistake;
        if (column.kind === "score") return cell === null || cell >= filters.score;
        return true;
      });
    enhanced.search.fixed("filters", (_text, _row, index) => passes(part.rows[index]));
    listeners.push(() => enhanced.draw());
  }

  /* ---- charts ---- */
  const charts = [];
  const drawChart = (figure) => {
    const part = partAt(figure.dataset.place);
    const box = find(".plot", figure);
    const legend = find(".legend", figure);
    const pressed = part.series.map(() => true);
    const visible = (place) => {
      const name = part.series[place].class_name;
      return pressed[place] && (!filters.class || !name || name === filters.class);
    };
    const values = part.series.map(() => make("span", { class: "value" }));
    let plot = null;
    const build = () => {
      plot?.destroy();
      const text = themed("--text");
      const line = themed("--line");
      const data = uPlot.join(part.series.map((series) => [series.x, series.y]));
      const steps = data[0].slice(1).map((x, place) => x - data[0][place]);
      const gap = steps.length ? Math.min(...steps) : 1;
      const axis = (label) => ({ label, stroke: text, labelSize: 18, labelFont: "12px system-ui", font: "12px system-ui", grid: { stroke: line, width: 1 }, ticks: { stroke: line }, labelGap: 2 });
      const width = Math.max(200, box.clientWidth);
      /* The floor of a logarithmic axis: below the smallest number that has a logarithm. */
      const positive = part.series.flatMap((series) => series.y.filter((y) => y > 0));
      const floor = part.log_y ? Math.min(...positive, 1) / 2 : 0;
      if (part.log_y) for (const column of data.slice(1)) column.forEach((y, place) => { if (y <= 0) column[place] = null; });
      const bars = part.kind === "bar" && uPlot.paths.bars({
        size: [0.9, (0.9 * (width - 90)) / data[0].length],
      });
      const rangeOfY = () => {
        if (part.y_range) return { range: part.y_range };
        if (part.log_y) return { range: (_, low, high) => [floor, 1.2 * Math.max(high ?? 1, floor * 10)] };
        if (part.kind === "bar") return { range: (_, low, high) => [Math.min(0, low ?? 0), (high ?? 0) * 1.05 || 1] };
        return {};
      };
      const options = {
        width,
        height: 260,
        legend: { show: false },
        cursor: { drag: { x: true, y: false } },
        scales: {
          x: { time: false, ...(part.x_range ? { range: part.x_range } : part.kind === "bar" ? { range: (_, low, high) => [low - gap / 2, high + gap / 2] } : {}) },
          y: { ...(part.log_y ? { distr: 3 } : {}), ...rangeOfY() },
        },
        axes: [
          /* Without a label the places mean nothing, as the legend names what stands there. */
          { ...axis(part.x_label), ...(part.x_label ? {} : { values: () => [], size: 12, labelSize: 0 }) },
          { ...axis(part.y_label), size: 58 },
        ],
        series: [{}, ...part.series.map((series, place) => ({
          label: series.name,
          show: visible(place),
          stroke: themed(styleOf(series, place).color),
          width: 2,
          dash: styleOf(series, place).dash,
          points: { show: part.kind === "line" && series.x.length < 12 },
          ...(bars ? { paths: bars, fillTo: floor, fill: themed(styleOf(series, place).color) } : {}),
        }))],
        hooks: {
          setCursor: [(chart) => {
            const place = chart.cursor.idx;
            part.series.forEach((_, row) => {
              const y = place === null || place === undefined ? undefined : chart.data[row + 1][place];
              values[row].textContent = y === undefined || y === null ? "" : Number(y.toPrecision(4)).toString();
            });
          }],
          draw: [(chart) => {
            const { ctx } = chart;
            const at = (x, y) => [chart.valToPos(x, "x", true), chart.valToPos(y, "y", true)];
            ctx.save();
            ctx.beginPath();
            ctx.rect(chart.bbox.left, chart.bbox.top, chart.bbox.width, chart.bbox.height);
            ctx.clip();
            ctx.strokeStyle = ctx.fillStyle = text;
            if (part.diagonal) {
              ctx.setLineDash([4, 4]);
              ctx.beginPath();
              ctx.moveTo(...at(0, 0));
              ctx.lineTo(...at(1, 1));
              ctx.stroke();
            }
            ctx.setLineDash([]);
            ctx.font = `${12 * devicePixelRatio}px system-ui`;
            const written = [];
            const row = 14 * devicePixelRatio;
            for (const mark of part.marks) {
              if (filters.class && mark.class_name && mark.class_name !== filters.class) continue;
              const [x, y] = at(mark.x, mark.y);
              ctx.beginPath();
              ctx.arc(x, y, 4 * devicePixelRatio, 0, 7);
              ctx.fill();
              const gap = 7 * devicePixelRatio;
              const left = Math.min(x + gap, chart.bbox.left + chart.bbox.width - ctx.measureText(mark.text).width - gap);
              const right = left + ctx.measureText(mark.text).width;
              let top = Math.max(y - gap, chart.bbox.top + 2 * gap);
              const covered = () => written.some((other) => left < other.right && other.left < right && Math.abs(top - other.top) < row);
              while (covered() && top + row < chart.bbox.top + chart.bbox.height) top += row;
              written.push({ left, right, top });
              ctx.textAlign = "left"; /* the axes have left it otherwise */
              ctx.textBaseline = "alphabetic";
              ctx.strokeStyle = themed("--card");
              ctx.lineWidth = 3 * devicePixelRatio;
              ctx.strokeText(mark.text, left, top);
              ctx.fillText(mark.text, left, top);
            }
            ctx.restore();
          }],
        },
      };
      plot = new uPlot(options, data, box);
      figure.dataset.drawn = "";
    };
    part.series.forEach((series, place) => {
      const swatch = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      swatch.setAttribute("width", "26");
      swatch.setAttribute("height", "10");
      swatch.setAttribute("aria-hidden", "true");
      const line = document.createElementNS("http://www.w3.org/2000/svg", "line");
      const shape = part.kind === "bar" ? { x1: 8, x2: 18, "stroke-width": 10 } : { x1: 0, x2: 26, "stroke-width": 3, "stroke-dasharray": styleOf(series, place).dash.join(" ") };
      for (const [name, value] of Object.entries({ ...shape, y1: 5, y2: 5 })) line.setAttribute(name, value);
      line.style.stroke = `var(${styleOf(series, place).color})`;
      swatch.append(line);
      const button = make("button", { type: "button", "aria-pressed": "true" }, swatch, series.name, values[place]);
      button.addEventListener("click", () => {
        pressed[place] = !pressed[place];
        button.setAttribute("aria-pressed", String(pressed[place]));
        plot?.setSeries(place + 1, { show: visible(place) });
      });
      legend.append(make("li", {}, button));
    });
    listeners.push(() => {
      part.series.forEach((_, place) => {
        legend.children[place].hidden = Boolean(filters.class && part.series[place].class_name && part.series[place].class_name !== filters.class);
        if (plot && plot.series[place + 1].show !== visible(place)) plot.setSeries(place + 1, { show: visible(place) });
      });
      if (part.marks.length) plot?.redraw();
    });
    charts.push({ build, resize: () => plot?.setSize({ width: Math.max(200, box.clientWidth), height: 260 }), figure });
  };
  all(".chart").forEach(drawChart);
  const near = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      near.unobserve(entry.target);
      charts.find((chart) => chart.figure === entry.target).build();
    }
  }, { rootMargin: "400px" });
  charts.forEach(({ figure }) => near.observe(figure));
  const drawn = () => charts.filter(({ figure }) => "drawn" in figure.dataset);
  addEventListener("resize", () => drawn().forEach(({ resize }) => resize()));
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => drawn().forEach(({ build }) => build()));
  find("#theme").addEventListener("click", () => {
    const dark = getComputedStyle(document.body).backgroundColor.match(/\d+/g).slice(0, 3).every((part) => part < 128);
    document.documentElement.dataset.theme = dark ? "light" : "dark";
    drawn().forEach(({ build }) => build());
  });

  /* ---- images ---- */
  const addresses = new Map();
  const address = (image) => {
    if (!addresses.has(image)) {
      const bytes = Uint8Array.from(atob(image.data), (letter) => letter.charCodeAt(0));
      addresses.set(image, URL.createObjectURL(new Blob([bytes], { type: image.mime })));
      image.data = ""; /* the text is not kept twice */
    }
    return addresses.get(image);
  };
  const boxPasses = (box) =>
    (!filters.class || box.class_name === filters.class) &&
    (!filters.mistake || box.mistake === filters.mistake) &&
    (box.score === null || box.score >= filters.score);
  const cardPasses = (card) => {
    if (!filters.class && !filters.mistake) return true;
    if (card.boxes.some(boxPasses)) return true;
    return (!filters.class || card.class_names.includes(filters.class)) &&
      (!filters.mistake || card.mistakes.includes(filters.mistake)) && (card.class_names.length + card.mistakes.length > 0);
  };
  const describe = (box) =>
    `${box.class_name}${box.score === null ? "" : ` ${box.score.toFixed(2)}`}${box.mistake ? ` · ${box.mistake}` : ""}`;
  const pictured = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      pictured.unobserve(entry.target);
      entry.target.src = address(entry.target.picture);
    }
  }, { rootMargin: "600px" });
  addEventListener("beforeprint", () => {
    for (const element of all(".stage img:not([src])")) element.src = address(element.picture);
    charts.filter(({ figure }) => !("drawn" in figure.dataset)).forEach(({ build }) => build());
  });
  const picture = (image, alt, lazily) => {
    const element = make("img", { alt, decoding: "async", width: image.width, height: image.height });
    if (lazily) {
      element.picture = image;
      pictured.observe(element);
    } else element.src = address(image);
    return element;
  };
  /* An image, its overlays and its boxes; switches says what is on. */
  const stage = (card, switches, lazily) => {
    const holder = make("span", { class: "stage" }, picture(card.image, card.name, lazily));
    holder.style.aspectRatio = `${card.width} / ${card.height}`;
    for (const overlay of card.overlays) {
      if (switches.overlays[overlay.name]) holder.append(picture(overlay.image, "", lazily));
    }
    const shown = card.boxes.filter((box) => boxPasses(box) && switches[box.origin]);
    const space = "http://www.w3.org/2000/svg";
    const drawing = document.createElementNS(space, "svg");
    drawing.setAttribute("viewBox", `0 0 ${card.width} ${card.height}`);
    drawing.setAttribute("preserveAspectRatio", "none");
    drawing.setAttribute("aria-hidden", "true");
    for (const box of [...shown].reverse()) {
      const [left, top, right, bottom] = box.box_xyxy;
      for (const layer of ["back", box.origin]) {
        const rect = document.createElementNS(space, "rect");
        for (const [name, value] of Object.entries({ class: layer, x: left, y: top, width: Math.max(0, right - left), height: Math.max(0, bottom - top) })) rect.setAttribute(name, value);
        if (layer !== "back") rect.style.stroke = switches.colour === "mistake" ? mistakeColour(box.mistake) : hue(box.class_name);
        drawing.append(rect);
      }
    }
    holder.append(drawing);
    if (switches.labels) {
      for (const box of shown) {
        const tag = make("span", { class: box.box_xyxy[1] < card.height * 0.06 ? "tag below" : "tag" });
        tag.textContent = describe(box);
        tag.style.left = `${(100 * box.box_xyxy[0]) / card.width}%`;
        tag.style.top = `${(100 * box.box_xyxy[1]) / card.height}%`;
        holder.append(tag);
      }
    }
    return holder;
  };

  const viewer = find("#viewer");
  let view = null;
  const showCard = () => {
    const { cards, switches } = view;
    const card = cards[view.place];
    find("#viewer-name").textContent = `${card.name} (${view.place + 1} of ${cards.length})`;
    const big = stage(card, { ...switches, labels: true }, false);
    big.style.maxWidth = `calc(72vh * ${card.width / card.height})`;
    find(".viewer-stage").replaceChildren(big);
    find("#viewer-note").textContent = noteOf(card);
    const boxes = card.boxes.filter((box) => boxPasses(box) && switches[box.origin]);
    const head = make("tr", {}, ...["class", "from", "score", "mistake"].map((name) => make("th", { scope: "col" }, name)));
    find("#viewer-boxes").replaceChildren(
      ...(boxes.length ? [make("thead", {}, head), make("tbody", {}, ...boxes.map((box) => make("tr", {}, make("td", {}, box.class_name), make("td", {}, box.origin === "truth" ? "ground truth" : "prediction"), make("td", {}, box.score === null ? "–" : number(box.score)), make("td", {}, box.mistake ?? "–"))))] : []),
    );
    find("#viewer-previous").disabled = view.place === 0;
    find("#viewer-next").disabled = view.place === cards.length - 1;
  };
  const step = (by) => {
    const place = view.place + by;
    if (place < 0 || place >= view.cards.length) return;
    view.place = place;
    showCard();
  };
  find("#viewer-previous").addEventListener("click", () => step(-1));
  find("#viewer-next").addEventListener("click", () => step(1));
  find("#viewer-close").addEventListener("click", () => viewer.close());
  viewer.addEventListener("keydown", (event) => {
    if (event.key === "ArrowLeft") step(-1);
    if (event.key === "ArrowRight") step(1);
  });
  const noteOf = (card) => [card.score === null ? "" : `${card.score_name} ${number(card.score)}`, card.note].filter(Boolean).join(" · ");

  all(".gallery").forEach((gallery) => {
    const part = partAt(gallery.dataset.place);
    const bar = find(".bar", gallery);
    const list = find(".cards", gallery);
    const boxed = part.cards.some((card) => card.boxes.length);
    const overlays = [...new Set(part.cards.flatMap((card) => card.overlays.map((overlay) => overlay.name)))];
    const switches = { truth: true, prediction: true, labels: false, colour: mistakeList.length ? "mistake" : "class", overlays: Object.fromEntries(overlays.map((name, place) => [name, place === overlays.length - 1])) };
    const legend = make("ul", { class: "classes", "aria-label": "Colours" });
    bar.after(legend);
    const explain = () => {
      const shown = new Map(); /* what a colour stands for */
      const kinds = new Set(part.cards.flatMap((card) => card.boxes.map((box) => box.mistake)));
      const there = new Set(part.cards.flatMap((card) => [...card.class_names, ...(switches.colour === "class" ? card.boxes.map((box) => box.class_name) : [])]));
      for (const name of [...names, ...there]) if (there.has(name)) shown.set(name, hue(name));
      if (boxed && switches.colour === "mistake") {
        shown.set("right, or found", RIGHT);
        for (const name of mistakeList) if (kinds.has(name)) shown.set(name, mistakeColour(name));
      }
      legend.replaceChildren(...[...shown].map(([name, colour]) => {
        const swatch = make("span", { class: "swatch", "aria-hidden": "true" });
        swatch.style.background = colour;
        return make("li", {}, swatch, name);
      }));
    };
    const toggles = [];
    if (boxed) toggles.push(["ground truth (dashed)", switches, "truth"], ["predictions", switches, "prediction"], ["labels", switches, "labels"]);
    for (const name of overlays) toggles.push([name, switches.overlays, name]);
    /* The same switches stand above the gallery and in the viewer. */
    const switchboard = (place, changed, without = []) => {
      for (const [label, owner, key] of toggles) {
        if (without.includes(key)) continue;
        const input = make("input", { type: "checkbox" });
        input.checked = owner[key];
        input.addEventListener("change", () => {
          owner[key] = input.checked;
          changed();
        });
        place.append(make("label", {}, input, label));
      }
    };
    const choose = (label, options, change) => {
      const select = make("select");
      fill(select, options);
      select.addEventListener("change", () => {
        change(select.value);
        render();
      });
      bar.append(make("label", {}, `${label} `, select));
    };
    let order = part.cards.map((_, place) => place);
    const shown = () => order.map((place) => part.cards[place]).filter(cardPasses);
    const rows = part.cards.map((card, place) => {
      const button = make("button", { type: "button", class: "open", "aria-label": `Open ${card.name}` });
      button.addEventListener("click", () => {
        const cards = shown();
        view = { cards, place: cards.indexOf(card), switches };
        const board = find("#viewer-switches");
        board.replaceChildren();
        switchboard(board, showCard, ["labels"]);
        viewer.addEventListener("close", refresh, { once: true });
        showCard();
        viewer.showModal();
      });
      const name = make("span", { class: "card-name" }, card.name);
      const note = make("span", { class: "card-note" }, noteOf(card));
      return { item: make("li", { "data-card": place }, button, name, note), button, card };
    });
    const render = () => {
      for (const { item, button, card } of rows) {
        item.hidden = !cardPasses(card);
        if (!item.hidden) button.replaceChildren(stage(card, switches, true));
      }
      list.append(...order.map((place) => rows[place].item));
      find(".after", gallery).textContent = filters.class || filters.mistake ? `, ${shown().length} pass the filters` : "";
    };
    const board = make("span", { class: "switches" });
    bar.append(board);
    const refresh = () => {
      board.replaceChildren();
      switchboard(board, render);
      render();
    };
    switchboard(board, render);
    if (boxed && mistakeList.length) choose("Colour by", ["mistake", "class"], (value) => {
      switches.colour = value;
      explain();
    });
    explain();
    const scores = part.cards.map((card) => card.score);
    if (scores.some((score) => score !== null)) {
      const ranked = part.cards.map((_, place) => place).filter((place) => scores[place] !== null).sort((a, b) => scores[a] - scores[b]);
      const rest = part.cards.map((_, place) => place).filter((place) => scores[place] === null);
      choose("Order", ["as given", "lowest score first", "highest score first", "name"], (value) => {
        if (value === "as given") order = part.cards.map((_, place) => place);
        else if (value === "name") order = part.cards.map((_, place) => place).sort((a, b) => part.cards[a].name.localeCompare(part.cards[b].name));
        else order = [...(value.startsWith("lowest") ? ranked : [...ranked].reverse()), ...rest];
      });
    }
    listeners.push(render);
  });
  apply();
  document.documentElement.dataset.ready = "";
})();
