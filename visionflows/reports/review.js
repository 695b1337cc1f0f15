"use strict";
// What a person says of each picture, by path: a class, or null for none of them. The browser keeps
// it meanwhile. The picture itself is that of the button below that leads to it.
(() => {
  const told = JSON.parse(document.getElementById("told").textContent);
  const { rows, classes } = told;
  const find = (id) => document.getElementById(id);
  const thumbs = [...document.querySelectorAll(".thumbs button")];
  const few = classes.length <= told.digits;
  const SHOWN = 24; // classes that a search shows at once
  let said = kept();
  let undone = []; // what each answer took the place of, the last one last
  let at = 0;
  let address = "";

  function kept() {
    try {
      return JSON.parse(localStorage.getItem(told.key)) || {};
    } catch {
      return {};
    }
  }

  function keep() {
    try {
      localStorage.setItem(told.key, JSON.stringify(said));
    } catch {
      find("unkept").hidden = false;
    }
  }

  const answered = (row) => Object.hasOwn(said, row.path);
  const isRight = (row) => answered(row) && said[row.path] !== null && said[row.path] === row.was;
  const percent = (share) => {
    const text = (100 * share).toFixed(1);
    return `${(text === "100.0" && share < 1 ? "99.9" : text).replace(/\.0$/, "")} %`;
  };
  const inWords = (row) =>
    !answered(row) ? "" : isRight(row) ? `✓ ${row.was}` : said[row.path] ?? "none of these";

  function answer(label) {
    const row = rows[at];
    undone.push([at, answered(row) ? { label: said[row.path] } : null]);
    said[row.path] = label;
    const open = rows.findIndex((one, place) => place > at && !answered(one));
    const next = open < 0 ? rows.findIndex((one) => !answered(one)) : open;
    const words = isRight(row) ? `Right: ${label}.` : `Said: ${label ?? "none of these"}.`;
    changed();
    if (next < 0) {
      show(at);
      hear(`${words} All are looked at: save corrections.csv.`);
    } else show(next, words);
  }

  function undo() {
    const last = undone.pop();
    if (!last) return hear("Nothing to undo.");
    const [place, before] = last;
    if (before) said[rows[place].path] = before.label;
    else delete said[rows[place].path];
    changed();
    show(place, "Undone.");
  }

  function changed() {
    keep();
    tally();
  }

  // Wilson's score interval, as in visionflows.review.audit.
  function wilson(right, count) {
    const share = right / count, per = told.z * told.z / count;
    const middle = share + per / 2;
    const spread = told.z * Math.sqrt(share * (1 - share) / count + per / (4 * count));
    return [Math.max((middle - spread) / (1 + per), 0), Math.min((middle + spread) / (1 + per), 1)];
  }

  function tally() {
    const done = rows.filter(answered);
    find("looked").textContent = done.length;
    find("changed").textContent = done.filter((row) => !isRight(row)).length;
    thumbs.forEach((thumb, place) => {
      const words = thumb.querySelector(".answer");
      words.textContent = inWords(rows[place]);
      words.className = isRight(rows[place]) ? "answer good" : "answer";
    });
    if (told.drawn) audited(done.filter((row) => row.why === "audit"));
    offer(done);
  }

  function audited(done) {
    const right = done.filter(isRight).length;
    find("accuracy").textContent = done.length ? percent(right / done.length) : "–";
    find("audited").textContent = done.length
      ? `Audit: ${done.length} of ${told.drawn} looked at, ${right} right: ` +
        `95 % interval ${wilson(right, done.length).map(percent).join(" to ")}.`
      : `Audit: none of ${told.drawn} looked at yet.`;
  }

  const cell = (value) => /[",\r\n]/.test(value) ? `"${String(value).replaceAll('"', '""')}"` : value;

  function offer(done) {
    URL.revokeObjectURL(address);
    const link = find("save");
    if (!done.length) {
      link.removeAttribute("href");
      link.textContent = "Nothing to save yet";
      return;
    }
    const lines = done.map((row) => {
      const label = said[row.path];
      const answer = label === null ? "none" : isRight(row) ? "right" : "other";
      const line = { ...row, label: label ?? "", answer, drawn: row.drawn || "" };
      return told.columns.map((name) => cell(line[name])).join(",");
    });
    const text = [told.columns.join(","), ...lines, ""].join("\r\n");
    address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.href = address;
    link.textContent = `Save corrections.csv (${done.length})`;
  }

  const hear = (words) => { find("heard").textContent = words; };

  function show(place, before = "", focus = true) {
    at = (place + rows.length) % rows.length;
    const row = rows[at], thumb = thumbs[at].querySelector("img");
    find("picture").src = thumb.src;
    find("picture").alt = `Picture ${at + 1}: ${row.path}`;
    find("path").textContent = row.path;
    const title = document.querySelector(`#${row.why}`).firstChild.textContent.trim();
    find("asked").textContent = `Picture ${at + 1} of ${rows.length}: ${title.toLowerCase()}`;
    const says = row.was
      ? `The network says ${row.was} (${percent(row.confidence)}).`
      : "The network gave it no label.";
    const so = answered(row) ? ` You said: ${said[row.path] ?? "none of these"}.` : "";
    find("says").textContent = says + so;
    find("right").hidden = !row.was;
    find("right").lastChild.textContent = `Right: ${row.was}`;
    find("right").setAttribute("aria-pressed", isRight(row));
    find("none").setAttribute("aria-pressed", answered(row) && said[row.path] === null);
    find("find").value = "";
    thumbs.forEach((one, place) => {
      if (place === at) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    });
    offerClasses();
    hear(`${before} Picture ${at + 1} of ${rows.length}. ${says}${so}`.trim());
    if (focus) find("asked").focus({ preventScroll: true });
  }

  function offerClasses() {
    const typed = find("find").value.trim().toLowerCase();
    const likely = few ? classes : rows[at].guesses.map(([name]) => name);
    const matching = typed ? found(typed) : likely;
    const shown = matching.slice(0, SHOWN);
    find("choices").replaceChildren(...shown.map((name, place) => {
      const button = document.createElement("button");
      button.type = "button";
      button.setAttribute("aria-pressed", said[rows[at].path] === name);
      if (!typed && place < told.digits) {
        button.setAttribute("aria-keyshortcuts", place + 1);
        button.append(Object.assign(document.createElement("kbd"), { textContent: place + 1 }));
      }
      button.append(name);
      button.addEventListener("click", () => answer(name));
      return button;
    }));
    const rest = matching.length - shown.length;
    find("more").hidden = few || (typed && !rest && matching.length > 0);
    find("more").textContent = typed
      ? (matching.length ? `and ${rest} more` : "no class has that in its name")
      : `the likeliest of ${classes.length} classes`;
    if (typed) hear(`${matching.length} classes match${matching.length ? `, first ${matching[0]}` : ""}.`);
    return matching;
  }

  // Classes that begin with it first, then those that have it anywhere.
  function found(typed) {
    const has = classes.filter((name) => name.toLowerCase().includes(typed));
    return has.sort((a, b) => b.toLowerCase().startsWith(typed) - a.toLowerCase().startsWith(typed));
  }

  function byLetter(letter) {
    const begun = classes.filter((name) => name.toLowerCase().startsWith(letter.toLowerCase()));
    if (begun.length === 1) answer(begun[0]);
  }

  function pressed(event) {
    if (!find("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    if (target === find("find")) return searching(event);
    // A key that is held would answer for pictures that nobody has seen.
    if (event.repeat && !key.startsWith("Arrow")) return event.preventDefault();
    const own = target.closest("a, button, input, summary") && ["Enter", " "].includes(key);
    if (own) return;
    const choices = find("choices").children;
    if (key === "Enter") { if (rows[at].was) answer(rows[at].was); }
    else if (key === "0") answer(null);
    else if (key >= "1" && key <= "9" && key.length === 1) choices[key - 1]?.click();
    else if (key === "ArrowRight" || key === "ArrowDown") show(at + 1);
    else if (key === "ArrowLeft" || key === "ArrowUp") show(at - 1);
    else if (key === "Backspace") undo();
    else if (key.length === 1 && key.trim() && few) byLetter(key);
    else if (key.length === 1 && key.trim()) { find("find").focus(); return; } // and is typed there
    else return;
    event.preventDefault();
  }

  function searching(event) {
    if (event.key === "Enter" && find("find").value.trim()) {
      const matching = offerClasses();
      if (matching.length) answer(matching[0]);
      event.preventDefault();
    } else if (event.key === "Escape") {
      find("find").value = "";
      offerClasses();
      find("asked").focus({ preventScroll: true });
      event.preventDefault();
    }
  }

  function firstOpen(from, to) {
    const open = rows.findIndex((row, place) => place >= from && place <= to && !answered(row));
    show(open < 0 ? from : open);
    find("asked").scrollIntoView();
  }

  document.addEventListener("keydown", pressed);
  find("right").addEventListener("click", () => answer(rows[at].was));
  find("none").addEventListener("click", () => answer(null));
  find("back").addEventListener("click", () => show(at - 1, "", false));
  find("next").addEventListener("click", () => show(at + 1, "", false));
  find("undo").addEventListener("click", undo);
  find("find").addEventListener("input", offerClasses);
  find("finding").hidden = few;
  thumbs.forEach((thumb, place) => thumb.addEventListener("click", () => {
    show(place);
    find("asked").scrollIntoView();
  }));
  document.querySelectorAll(".begin").forEach((button) => button.addEventListener(
    "click", () => firstOpen(Number(button.dataset.from), Number(button.dataset.to))));
  find("forget").addEventListener("click", () => {
    if (!confirm("Forget all answers that this browser keeps for this page?")) return;
    [said, undone] = [{}, []];
    changed();
    show(0);
  });
  keep();
  tally();
  const open = rows.findIndex((row) => !answered(row));
  show(open < 0 ? 0 : open, "", false);
})();
