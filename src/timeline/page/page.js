"use strict";
(() => {
  const picture = document.getElementById("picture");
  const start = Number(picture.dataset.from);
  const style = picture.style;
  const number = (name) => Number(style.getPropertyValue(name));
  const all = number("--all");
  let from = number("--f");
  let width = number("--w");
  const axis = picture.querySelector(".axis");
  const tools = picture.querySelector(".tools");
  const shown = picture.querySelector(".shown");
  const panel = picture.querySelector(".panel");
  const lanes = picture.querySelector(".lanes");
  const links = [...document.querySelectorAll("#incidents a")];
  // "Next" stays with the run that the others are compared with, if anything happened in it.
  const main = links.filter((link) => link.dataset.run === (links[0] || {}).dataset?.run);
  const tracks = [...picture.querySelectorAll(".track")];
  const MIN_WIDTH_MS = Math.min(all, 200);
  // The page's first labels are made of the same.
  const STEPS_MS = [100, 200, 500, 1e3, 2e3, 5e3, 1e4, 15e3, 3e4, 6e4, 12e4, 3e5, 6e5, 9e5, 18e5, 36e5, 72e5, 108e5, 216e5, 432e5, 864e5, 1728e5];
  const PX_PER_CHAR = 8;
  const dated = Math.floor(start / 864e5) !== Math.floor((start + all - 1) / 864e5);

  const make = (tag, name, text) => {
    const made = document.createElement(tag);
    if (name) made.className = name;
    if (text) made.textContent = text;
    return made;
  };

  // Times, as the page writes them.
  const clock = (at, digits) => new Date(start + at).toISOString().slice(dated ? 5 : 11, digits).replace("T", " ");
  const label = (time, digits) => {
    const text = new Date(time).toISOString();
    return dated && time % 864e5 === 0 ? text.slice(5, 10) : text.slice(11, digits);
  };
  const day = (at) => Math.floor((start + at) / 864e5);
  const between = (begin, end) => `${clock(begin, 23)} to ${day(begin) === day(end) ? clock(end, 23).slice(-12) : clock(end, 23)}`;
  const length = (ms) => {
    const two = (large, unit, small, part) => `${large} ${unit}` + (small ? ` ${small} ${part}` : "");
    const s = Math.floor(ms / 1e3);
    if (ms < 1e3) return `${Math.round(ms)} ms`;
    if (ms < 6e4) return `${Number((ms / 1e3).toFixed(1))} s`;
    if (ms < 36e5) return two(Math.floor(s / 60), "min", s % 60, "s");
    if (ms < 864e5) return two(Math.floor(s / 3600), "h", Math.floor((s % 3600) / 60), "min");
    return two(Math.floor(s / 86400), "d", Math.floor((s % 86400) / 3600), "h");
  };

  const at = (mark, name) => Number(mark.style.getPropertyValue(name));

  // What is shown.
  const buttons = {};
  const draw = () => {
    width = Math.round(Math.min(all, Math.max(MIN_WIDTH_MS, width)));
    from = Math.round(Math.min(all - width, Math.max(0, from)));
    style.setProperty("--f", from);
    style.setProperty("--w", width);
    shown.textContent = `${between(from, from + width)}, ${length(width)}`;
    const digits = (one) => (one < 1e3 ? 23 : one < 6e4 ? 19 : 16);
    const wide = (one) => (digits(one) - 11 + 2) * PX_PER_CHAR;
    const step = STEPS_MS.find((one) => (one / width) * axis.clientWidth >= wide(one)) || width;
    axis.querySelectorAll(".tick").forEach((tick) => tick.remove());
    for (let at = Math.ceil((start + from) / step) * step; at <= start + from + width; at += step) {
      const tick = make("div", "tick");
      tick.style.setProperty("--a", at - start);
      tick.append(make("span", "", label(at, digits(step))));
      axis.append(tick);
    }
    buttons.out.disabled = buttons.whole.disabled = width >= all;
    buttons.in.disabled = width <= MIN_WIDTH_MS;
    buttons.earlier.disabled = from <= 0;
    buttons.later.disabled = from + width >= all;
    picture.querySelectorAll(".decisions").forEach((track) => {
      const places = [...track.children].map((mark) => ((at(mark, "--a") - from) / width) * axis.clientWidth);
      [...track.children].forEach((mark, index) => {
        const room = Math.min(places[index + 1] ?? Infinity, axis.clientWidth) - places[index] - 28;
        mark.style.setProperty("--room", room > 40 ? `${Math.min(room, 900)}px` : "0");
      });
    });
    links.forEach((link) => {
      if (Number(link.dataset.f) === from && Number(link.dataset.w) === width) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    });
  };
  const show = (newFrom, newWidth) => {
    from = newFrom;
    width = newWidth;
    draw();
  };
  const zoom = (factor, around = from + width / 2) => {
    const newWidth = Math.min(all, Math.max(MIN_WIDTH_MS, width * factor));
    show(around - ((around - from) / width) * newWidth, newWidth);
  };

  const button = (key, text, name, act) => {
    const made = make("button", "", text);
    made.type = "button";
    if (name) made.setAttribute("aria-label", name);
    made.addEventListener("click", act);
    buttons[key] = made;
    tools.insertBefore(made, shown);
  };
  const incident = (link) => {
    show(Number(link.dataset.f), Number(link.dataset.w));
    choose(firstOf(link));
  };
  button("earlier", "←", "earlier", () => show(from - width / 2, width));
  button("later", "→", "later", () => show(from + width / 2, width));
  button("in", "+", "zoom in", () => zoom(0.5));
  button("out", "−", "zoom out", () => zoom(2));
  button("whole", "Whole", "show the whole stretch", () => show(0, all));
  if (main.length > 1) {
    button("next", "Next incident", "", () => {
      const current = main.findIndex((link) => link.hasAttribute("aria-current"));
      incident(main[(current + 1) % main.length]);
    });
  }

  // What is told of a mark.
  let chosen = null;
  const guide = make("div", "guide");
  const end = (mark) => (mark.classList.contains("m") ? at(mark, "--a") : at(mark, "--b"));
  const laneOf = (mark) => mark.closest(".row").querySelector(".label b").textContent;
  const tell = (mark) => {
    panel.replaceChildren();
    panel.hidden = !mark;
    guide.remove();
    if (!mark) return;
    const marks = [...mark.parentElement.children];
    const steps = make("div", "steps");
    [["←", "the one before", -1], ["→", "the next", 1]].forEach(([sign, name, by]) => {
      const step = make("button", "", sign);
      step.type = "button";
      step.setAttribute("aria-label", name);
      const other = marks[marks.indexOf(mark) + by];
      step.disabled = !other;
      step.addEventListener("click", () => choose(other));
      steps.append(step);
    });
    const close = make("button", "", "×");
    close.type = "button";
    close.setAttribute("aria-label", "close");
    close.addEventListener("click", () => choose(null));
    steps.append(close);
    const what = make("p", "what", `${laneOf(mark)}: ${mark.querySelector("b").textContent}`);
    what.append(" ", make("span", "when", mark.querySelector("i").textContent));
    const why = make("p", "why", mark.querySelector("span").textContent);
    panel.append(steps, what, why);
    const vetoes = mark.querySelectorAll("small");
    if (vetoes.length) {
      const list = make("ul");
      vetoes.forEach((veto) => list.append(make("li", "", veto.textContent)));
      panel.append(list);
    }
    guide.style.setProperty("--a", at(mark, "--a"));
    axis.append(guide);
  };
  const choose = (mark) => {
    if (chosen) chosen.classList.remove("chosen");
    chosen = mark || null;
    if (chosen) {
      chosen.classList.add("chosen");
      if (end(chosen) < from || at(chosen, "--a") > from + width) show(at(chosen, "--a") - width / 2, width);
      const track = chosen.parentElement;
      [...track.children].forEach((other) => (other.tabIndex = other === chosen ? 0 : -1));
    }
    tell(chosen);
  };
  // Of an incident the move that ended it tells most; else whatever begins within it.
  const firstOf = (link) => {
    const [begin, span] = [Number(link.dataset.f), Number(link.dataset.w)];
    const within = (mark) => at(mark, "--a") >= begin && at(mark, "--a") <= begin + span;
    const of = `.run[data-run="${link.dataset.run}"] `;
    return [".m.move", ".s.outage", ".m.blocked", ".m.fault", ".m"].map((kind) => [...lanes.querySelectorAll(of + kind)].find(within)).find(Boolean);
  };

  const marks = (track) => [...track.children];
  tracks.forEach((track) => marks(track).forEach((mark, index) => (mark.tabIndex = index ? -1 : 0)));
  lanes.addEventListener("focusin", (event) => event.target.closest(".s, .m") && choose(event.target));
  lanes.addEventListener("click", (event) => {
    const mark = event.target.closest(".s, .m");
    if (mark) choose(mark);
  });
  lanes.addEventListener("pointerover", (event) => {
    if (event.pointerType !== "mouse" || dragging) return;
    const mark = event.target.closest(".s, .m");
    if (mark) tell(mark);
  });
  lanes.addEventListener("pointerleave", (event) => event.pointerType === "mouse" && tell(chosen));

  const nearest = (track, time) => {
    const distance = (mark) => (at(mark, "--a") <= time && end(mark) >= time ? 0 : Math.min(Math.abs(at(mark, "--a") - time), Math.abs(end(mark) - time)));
    return marks(track).reduce((best, mark) => (!best || distance(mark) < distance(best) ? mark : best), null);
  };
  const focus = (mark) => mark && mark.focus({ preventScroll: false });
  lanes.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const mark = event.target.closest(".s, .m");
    if (!mark) return;
    const row = marks(mark.parentElement);
    const index = row.indexOf(mark);
    const track = tracks.indexOf(mark.parentElement);
    const middle = Math.min(Math.max(at(mark, "--a"), from), from + width);
    const acts = {
      ArrowLeft: () => focus(row[index - 1]),
      ArrowRight: () => focus(row[index + 1]),
      Home: () => focus(row[0]),
      End: () => focus(row[row.length - 1]),
      ArrowUp: () => tracks[track - 1] && focus(nearest(tracks[track - 1], middle)),
      ArrowDown: () => tracks[track + 1] && focus(nearest(tracks[track + 1], middle)),
      "+": () => zoom(0.5, middle),
      "-": () => zoom(2, middle),
      0: () => show(0, all),
      Escape: () => choose(null),
    };
    if (!acts[event.key]) return;
    event.preventDefault();
    acts[event.key]();
  });

  // Drag moves the view; a wheel with Ctrl, as browsers zoom, zooms it.
  let dragging = null;
  lanes.addEventListener("pointerdown", (event) => {
    if (event.button === 0 && event.target.closest(".tracks")) dragging = { x: event.clientX, from, moved: false };
  });
  window.addEventListener("pointermove", (event) => {
    if (!dragging) return;
    const by = event.clientX - dragging.x;
    dragging.moved ||= Math.abs(by) > 6;
    if (dragging.moved) show(dragging.from - (by / axis.clientWidth) * width, width);
  });
  const drop = () => setTimeout(() => (dragging = null));
  window.addEventListener("pointerup", drop);
  window.addEventListener("pointercancel", drop);
  lanes.addEventListener("click", (event) => dragging && dragging.moved && event.stopPropagation(), true);
  lanes.addEventListener("wheel", (event) => {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const box = axis.getBoundingClientRect();
    zoom(event.deltaY > 0 ? 1.25 : 0.8, from + ((event.clientX - box.left) / box.width) * width);
  }, { passive: false });
  picture.querySelector(".overview").addEventListener("click", (event) => {
    const box = event.currentTarget.getBoundingClientRect();
    if (!event.target.closest("a")) show(((event.clientX - box.left) / box.width) * all - width / 2, width);
  });

  // Links to incidents zoom; the address bar keeps which.
  const follow = (hash, scroll) => {
    const link = links.find((one) => one.getAttribute("href") === hash);
    if (!link) return false;
    incident(link);
    if (scroll) picture.scrollIntoView();
    return true;
  };
  document.addEventListener("click", (event) => {
    const link = event.target.closest("a[href^='#incident-']");
    if (!link || !follow(link.getAttribute("href"), true)) return;
    event.preventDefault();
    history.replaceState(null, "", link.getAttribute("href"));
  });
  window.addEventListener("hashchange", () => follow(location.hash, true));
  window.addEventListener("resize", draw);

  // The points of the trade-off.
  document.querySelectorAll("#tradeoff .point").forEach((point) => {
    const told = document.querySelector("#tradeoff .panel");
    const say = () => {
      told.hidden = false;
      told.textContent = point.getAttribute("aria-label");
    };
    ["focus", "pointerover", "click"].forEach((kind) => point.addEventListener(kind, say));
  });
  // Paper shows all there is.
  window.addEventListener("beforeprint", () => document.querySelectorAll("details").forEach((one) => (one.open = true)));

  draw();
  if (!follow(location.hash, false) && links.length) choose(firstOf(links[0]));
})();
