"use strict";
// Answers by path: the correct class, or null for none of the classes; of several labels, all of
// them joined by a semicolon as in visionflows.label_sets, empty for none. The browser keeps them
// until they are saved. Each photo is embedded once, in its thumbnail.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const { rows, classes, several } = data;
  const find = (id) => document.getElementById(id);
  const thumbs = [...document.querySelectorAll(".thumbs button")];
  const MOST_BUTTONS = 12; // classes that all have a button; of more, the likeliest have one
  const MOST_FOUND = 24; // classes that a search shows at once
  const hasFewClasses = classes.length <= MOST_BUTTONS;
  const digits = classes.filter((name) => /^[0-9]$/.test(name));
  const noneKey = digits.length ? "-" : "0";
  let answers = load();
  let undone = []; // the position and the earlier answer of each change, the last one last
  let current = 0;
  let pressed = new Set(); // of several labels, those that Enter answers with
  let address = "";

  function load() {
    try {
      return new Map(JSON.parse(localStorage.getItem(data.key)));
    } catch {
      return new Map();
    }
  }

  function store() {
    try {
      localStorage.setItem(data.key, JSON.stringify([...answers]));
    } catch {
      find("storage-warning").hidden = false;
    }
  }

  const isAnswered = (row) => answers.has(row.path);
  const hasPrediction = (row) => row.was || (several && Number(row.confidence) > 0);
  const isConfirmed = (row) => isAnswered(row) && answers.get(row.path) === row.was && hasPrediction(row);
  const nameOf = (label) => (several ? split(label ?? "").join(", ") || null : label) ?? "none of these classes";
  const split = (label) => label ? label.split(";") : [];
  const none = several ? "" : null;
  const chosen = () => several ? classes.filter((name) => pressed.has(name)).join(";") : rows[current].was;

  // A class is the answer, or is one of several: then it is pressed or released.
  function choose(name) {
    if (!several) return answer(name);
    if (!pressed.delete(name)) pressed.add(name);
    find("query").value = "";
    offerClasses();
    offerAnswer();
    announce(`${name} ${pressed.has(name) ? "pressed" : "released"}. Enter answers: ${nameOf(chosen())}.`);
  }

  function offerAnswer() {
    const row = rows[current], label = chosen();
    find("confirm").hidden = !row.was && !several;
    const begin = label === row.was && hasPrediction(row) ? "Correct" : "Answer";
    find("confirm").lastChild.textContent = `${begin}: ${nameOf(label)}`;
    find("confirm").setAttribute("aria-pressed", isAnswered(row) && answers.get(row.path) === label);
  }
  const percent = (share) => {
    const text = (100 * share).toFixed(1);
    return `${(text === "100.0" && share < 1 ? "99.9" : text).replace(/\.0$/, "")} %`;
  };

  function answer(label) {
    const row = rows[current];
    undone.push([current, isAnswered(row), answers.get(row.path)]);
    answers.set(row.path, label);
    const later = rows.findIndex((one, position) => position > current && !isAnswered(one));
    const next = later < 0 ? rows.findIndex((one) => !isAnswered(one)) : later;
    const words = `${isConfirmed(row) ? "Confirmed" : "Corrected"}: ${nameOf(label)}.`;
    update();
    if (next < 0) {
      show(current);
      announce(`${words} All images are reviewed: save corrections.csv.`);
    } else show(next, words);
  }

  function undo() {
    const last = undone.pop();
    if (!last) return announce("Nothing to undo.");
    const [position, wasAnswered, label] = last;
    if (wasAnswered) answers.set(rows[position].path, label);
    else answers.delete(rows[position].path);
    update();
    show(position, "Undone.");
  }

  function update() {
    setUnsaved(true);
    store();
    count();
  }

  const warn = (event) => event.preventDefault();

  function setUnsaved(isUnsaved) {
    if (isUnsaved) addEventListener("beforeunload", warn);
    else removeEventListener("beforeunload", warn);
  }

  // Wilson's score interval, as in visionflows.review.audit.
  function wilson(right, total) {
    const share = right / total, per = data.z * data.z / total;
    const middle = share + per / 2;
    const spread = data.z * Math.sqrt(share * (1 - share) / total + per / (4 * total));
    return [Math.max((middle - spread) / (1 + per), 0), Math.min((middle + spread) / (1 + per), 1)];
  }

  function count() {
    const done = rows.filter(isAnswered);
    find("answered").textContent = find("progress").value = done.length;
    find("corrected").textContent = done.filter((row) => !isConfirmed(row)).length;
    thumbs.forEach((thumb, position) => {
      const row = rows[position], text = thumb.querySelector(".answer");
      const words = isConfirmed(row) ? `✓ ${nameOf(row.was)}` : nameOf(answers.get(row.path));
      text.textContent = isAnswered(row) ? words : "";
      text.className = isConfirmed(row) ? "answer good" : "answer";
    });
    if (data.sampled) estimate(done.filter((row) => row.why === "audit"));
    offerFile(done);
  }

  function estimate(done) {
    const right = done.filter(isConfirmed).length;
    find("accuracy").textContent = done.length ? percent(right / done.length) : "–";
    find("audited").textContent = done.length
      ? `Audit: ${done.length} of ${data.sampled} reviewed, ${right} correct: ` +
        `95 % interval ${wilson(right, done.length).map(percent).join(" to ")}.`
      : `Audit: 0 of ${data.sampled} reviewed.`;
  }

  // As visionflows.escaping.escape_formula: no cell is a formula for a spreadsheet.
  const FORMULA = "=+\\-@＝＋－＠";
  const within = new RegExp(`([;|\t\r\n][ "]*)(?='*[${FORMULA}])`, "g");
  const beginning = new RegExp(`^(?='* *'*[${FORMULA}\t\r\n])`);
  const harmless = (value) => String(value).replace(within, "$1'").replace(beginning, "'");
  const quote = (value) => /[",\r\n]/.test(value) ? `"${value.replaceAll('"', '""')}"` : value;

  function offerFile(done) {
    URL.revokeObjectURL(address);
    const link = find("save");
    if (!done.length) {
      link.removeAttribute("href");
      link.textContent = "Nothing to save yet";
      return;
    }
    const lines = done.map((row) => {
      const label = answers.get(row.path);
      const kind = !label ? (several ? "empty" : "none") : isConfirmed(row) ? "right" : "other";
      const numbers = { drawn: row.drawn || "", decisions: row.decisions || "" };
      const line = { ...row, label: label ?? "", answer: kind, ...numbers };
      return data.columns.map((name) => quote(harmless(line[name]))).join(",");
    });
    const text = [data.columns.join(","), ...lines, ""].join("\r\n");
    address = URL.createObjectURL(new Blob([text], { type: "text/csv;charset=utf-8" }));
    link.href = address;
    link.textContent = `Save corrections.csv (${done.length})`;
  }

  const announce = (words) => { find("status").textContent = words; };

  function show(position, words = "", moveFocus = true) {
    current = (position + rows.length) % rows.length;
    const row = rows[current], photo = thumbs[current].querySelector("img");
    for (const id of ["picture", "large-picture"]) {
      find(id).src = photo.src;
      find(id).alt = `Image ${current + 1}: ${row.path}`;
    }
    find("path").textContent = row.path;
    find("original").hidden = !row.original;
    find("original").href = row.original;
    const group = find(row.why).firstChild.textContent.trim();
    find("photo").textContent = `Image ${current + 1} of ${rows.length}: ${group.toLowerCase()}`;
    pressed = new Set(split(isAnswered(row) ? answers.get(row.path) : row.was));
    const prediction = hasPrediction(row)
      ? `Predicted: ${nameOf(row.was)} (${percent(row.confidence)}).`
      : "No label: the image was rejected as an outlier.";
    const given = isAnswered(row) ? ` Your answer: ${nameOf(answers.get(row.path))}.` : "";
    find("prediction").textContent = prediction + given;
    offerAnswer();
    find("none").setAttribute("aria-pressed", isAnswered(row) && answers.get(row.path) === none);
    find("query").value = "";
    thumbs.forEach((one, at) => {
      if (at === current) one.setAttribute("aria-current", "true");
      else one.removeAttribute("aria-current");
    });
    offerClasses();
    announce(`${words} Image ${current + 1} of ${rows.length}. ${prediction}${given}`.trim());
    if (moveFocus) find("photo").focus({ preventScroll: true });
  }

  // The key of a class: the digit that is its name, else its position among the buttons.
  function keyOf(name, position) {
    if (digits.length) return digits.includes(name) ? name : "";
    return position < 9 ? String(position + 1) : "";
  }

  function offerClasses() {
    const query = find("query").value.trim().toLowerCase();
    const guesses = rows[current].guesses.map(([name]) => name);
    const given = several ? [...split(rows[current].was), ...pressed] : [];
    const likely = hasFewClasses ? classes : [...new Set([...guesses, ...given])];
    const matching = query ? search(query) : likely;
    const shown = matching.slice(0, MOST_FOUND);
    find("choices").replaceChildren(...shown.map((name, position) => {
      const button = document.createElement("button");
      button.type = "button";
      const isPressed = several ? pressed.has(name) : answers.get(rows[current].path) === name;
      button.setAttribute("aria-pressed", isPressed);
      const key = query ? "" : keyOf(name, position);
      if (key) {
        button.setAttribute("aria-keyshortcuts", key);
        button.append(Object.assign(document.createElement("kbd"), { textContent: key }));
      }
      button.append(name);
      button.addEventListener("click", () => choose(name));
      return button;
    }));
    const rest = matching.length - shown.length;
    find("more").hidden = hasFewClasses || (query && !rest && matching.length > 0);
    find("more").textContent = query
      ? (matching.length ? `and ${rest} more` : "No class name contains this text.")
      : `The most likely of ${classes.length} classes.`;
    if (query) announce(`${matching.length} classes match${matching.length ? `, first ${matching[0]}` : ""}.`);
    return matching;
  }

  // Classes that begin with the text come first, then those that contain it.
  function search(query) {
    const found = classes.filter((name) => name.toLowerCase().includes(query));
    return found.sort((a, b) => b.toLowerCase().startsWith(query) - a.toLowerCase().startsWith(query));
  }

  function answerByDigit(key) {
    if (digits.includes(key)) return choose(key);
    if (digits.length) return undefined;
    return find("choices").querySelector(`[aria-keyshortcuts="${key}"]`)?.click();
  }

  function answerByLetter(letter) {
    const begun = classes.filter((name) => name.toLowerCase().startsWith(letter.toLowerCase()));
    if (begun.length === 1) choose(begun[0]);
  }

  function onKey(event) {
    if (!find("keys").checked || event.ctrlKey || event.metaKey || event.altKey) return;
    const { key, target } = event;
    if (find("large").open) return onKeyEnlarged(event);
    if (target === find("query")) return onSearchKey(event);
    // A key that is held down must not answer for images that nobody has seen.
    if (event.repeat && !key.startsWith("Arrow")) return event.preventDefault();
    if (target.closest("a, button, input, summary") && ["Enter", " "].includes(key)) return;
    if (key === "Enter") { if (several || rows[current].was) answer(chosen()); }
    else if (key === " ") find("large").showModal();
    else if (key === noneKey) answer(none);
    else if (/^[0-9]$/.test(key)) answerByDigit(key);
    else if (key === "ArrowRight" || key === "ArrowDown") show(current + 1);
    else if (key === "ArrowLeft" || key === "ArrowUp") show(current - 1);
    else if (key === "Backspace") undo();
    else if (key.length === 1 && hasFewClasses) answerByLetter(key);
    else if (key.length === 1) { find("query").focus(); return; } // the key is typed there
    else return;
    event.preventDefault();
  }

  function onKeyEnlarged(event) {
    if (event.key !== " " && event.key !== "Enter") return; // Escape closes a dialog by itself
    if (!event.repeat) find("large").close();
    event.preventDefault();
  }

  function onSearchKey(event) {
    if (event.key === "Enter" && find("query").value.trim()) {
      const matching = offerClasses();
      if (matching.length) choose(matching[0]);
      if (several) find("photo").focus({ preventScroll: true }); // the next Enter answers
      event.preventDefault();
    } else if (event.key === "Escape") {
      find("query").value = "";
      offerClasses();
      find("photo").focus({ preventScroll: true });
      event.preventDefault();
    }
  }

  function showFirstOpen(from, to) {
    const open = rows.findIndex((row, at) => at >= from && at <= to && !isAnswered(row));
    show(open < 0 ? from : open);
    find("photo").scrollIntoView();
  }

  const onClick = (id, action) => find(id).addEventListener("click", action);
  document.addEventListener("keydown", onKey);
  onClick("confirm", () => answer(chosen()));
  onClick("none", () => answer(none));
  onClick("back", () => show(current - 1, "", false));
  onClick("next", () => show(current + 1, "", false));
  onClick("undo", undo);
  onClick("enlarge", () => find("large").showModal());
  onClick("close", () => find("large").close());
  onClick("save", () => { if (find("save").href) setUnsaved(false); });
  onClick("clear", () => {
    if (!confirm("Delete all answers that this browser keeps for this page?")) return;
    [answers, undone] = [new Map(), []];
    update();
    setUnsaved(false);
    show(0);
  });
  find("query").addEventListener("input", offerClasses);
  thumbs.forEach((thumb, position) => thumb.addEventListener("click", () => {
    show(position);
    find("photo").scrollIntoView();
  }));
  document.querySelectorAll(".begin").forEach((button) => button.addEventListener(
    "click", () => showFirstOpen(Number(button.dataset.from), Number(button.dataset.to))));
  find("search").hidden = hasFewClasses;
  find("none").firstChild.textContent = noneKey;
  find("none").setAttribute("aria-keyshortcuts", noneKey);
  find("letters").textContent = hasFewClasses
    ? "The first letter of a class chooses it, if no other class begins with it."
    : "Type letters to search a class by name; Enter chooses the first match.";
  store();
  count();
  const open = rows.findIndex((row) => !isAnswered(row));
  show(open < 0 ? 0 : open, "", false);
})();
