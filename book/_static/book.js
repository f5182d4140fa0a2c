// Small things that the theme leaves out.

// A box that could scroll sideways is reached by keyboard and says what it is (book/_ext/markup.py
// writes that into the page); where nothing scrolls, it is neither.
const names = new Map();
for (const box of document.querySelectorAll(".bd-article [data-scrolls]"))
  names.set(box, box.getAttribute("aria-label"));

function label() {
  for (const [box, name] of names) {
    if (box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible") {
      box.tabIndex = 0;
      box.setAttribute("role", "group");
      box.setAttribute("aria-label", name);
    } else {
      for (const attribute of ["tabindex", "role", "aria-label"]) box.removeAttribute(attribute);
    }
  }
}

label();
new ResizeObserver(label).observe(document.querySelector(".bd-article") ?? document.body);

// A longer cell (book/_ext/very_deep.py) shows how it begins, and all of it at a click or when a
// link leads into it.
for (const cell of document.querySelectorAll(".cell_input.long")) {
  const lines = cell.querySelector("pre").textContent.trimEnd().split("\n").length;
  const button = document.createElement("button");
  const turn = (open) => {
    cell.classList.toggle("open", open);
    button.textContent = open ? "Show less" : `Show all ${lines} lines`;
    button.setAttribute("aria-expanded", open);
  };
  button.type = "button";
  button.className = "show-code";
  button.addEventListener("click", () => turn(!cell.classList.contains("open")));
  turn(false);
  cell.append(button);
}

// Code is copied with the mouse, or selected by keyboard as text is: a stop at each cell would make
// a hundred of a chapter. (The theme's script adds the buttons.)
addEventListener("load", () => {
  for (const button of document.querySelectorAll("button.copybtn")) button.tabIndex = -1;
});

// A term (book/_ext/terms.py) shows what the glossary says of it, a verdict (verdicts.py) what the
// ledger does, while it has the focus, or while the pointer is on it or on the note itself; Escape
// takes the note away. A tap follows the link.
const article = document.querySelector(".bd-article");
const explained = article?.querySelectorAll("a[data-definition]") ?? [];
if (explained.length) {
  const note = Object.assign(document.createElement("div"), { id: "term-note", hidden: true });
  note.setAttribute("role", "tooltip");
  article.append(note);
  let term = null;
  let leaving;
  const hide = () => {
    clearTimeout(leaving);
    term?.removeAttribute("aria-describedby");
    note.hidden = true;
    term = null;
  };
  const show = (link) => {
    hide();
    term = link;
    note.textContent = link.dataset.definition;
    note.hidden = false;
    link.setAttribute("aria-describedby", note.id);
    const around = note.offsetParent.getBoundingClientRect();
    const [line] = link.getClientRects();
    const room = document.documentElement.clientWidth - note.offsetWidth - 8;
    const below = line.bottom + note.offsetHeight < innerHeight || line.top < note.offsetHeight;
    note.style.left = `${Math.max(8, Math.min(line.left, room)) - around.left}px`;
    note.style.top = `${(below ? line.bottom : line.top - note.offsetHeight) - around.top}px`;
  };
  const leave = () => {
    clearTimeout(leaving);
    leaving = setTimeout(() => term !== document.activeElement && hide(), 200);
  };
  for (const link of explained) {
    link.addEventListener("pointerenter", (event) => event.pointerType !== "touch" && show(link));
    link.addEventListener("pointerleave", leave);
    link.addEventListener("focus", () => show(link));
    link.addEventListener("blur", hide);
  }
  note.addEventListener("pointerenter", () => clearTimeout(leaving));
  note.addEventListener("pointerleave", leave);
  addEventListener("keydown", ({ key }) => key === "Escape" && hide());
}

// The claims ledger shows the verdicts that are ticked.
const ledger = document.querySelector("table.ledger");
if (ledger) {
  const rows = [...ledger.tBodies[0].rows];
  const verdict = (row) => row.cells[3].textContent.trim();
  const filter = document.createElement("fieldset");
  filter.className = "ledger-filter";
  filter.innerHTML = "<legend>Show</legend>";
  for (const word of new Set(rows.map(verdict))) {
    const box = Object.assign(document.createElement("input"), { type: "checkbox", checked: true });
    const count = rows.filter((row) => verdict(row) === word).length;
    const choice = document.createElement("label");
    choice.append(box, ` ${word} (${count})`);
    filter.append(choice);
    box.addEventListener("change", () => {
      for (const row of rows) if (verdict(row) === word) row.hidden = !box.checked;
    });
  }
  (ledger.closest(".pst-scrollable-table-container") ?? ledger).before(filter);
}

// A chapter's card on the first page says how many of its questions this browser has answered.
async function progress() {
  const names = Object.keys(localStorage);
  if (!names.some((name) => name.startsWith("very-deep:answer:"))) return;
  const chapters = await (await fetch(new URL("widgets/questions.json", import.meta.url))).json();
  for (const link of document.querySelectorAll('.sd-card a[href*="notebooks/"]')) {
    const asked = chapters[link.pathname.split("/").pop().replace(".html", "")] ?? [];
    const done = asked.filter((name) => names.includes(`very-deep:answer:${name}`)).length;
    const footer = link.closest(".sd-card").querySelector(".sd-card-footer .sd-card-text");
    if (!done || !footer) continue;
    const tick = done === asked.length ? "✓ " : "";
    const said = Object.assign(document.createElement("span"), {
      textContent: `${tick}${done} of ${asked.length} answered`,
    });
    said.style.whiteSpace = "nowrap";
    footer.append(" · ", said);
  }
}
// A browser may refuse to keep anything; then there is nothing to say.
if (document.querySelector(".sd-card")) progress().catch(() => {});

// Paper is white, and nothing on it can be opened: a page is printed in the light theme, whatever
// is on the screen, with its exercises (but not their solutions).
const root = document.documentElement;
let theme, closed;
addEventListener("beforeprint", () => {
  theme = root.dataset.theme;
  root.dataset.theme = "light";
  closed = document.querySelectorAll("details.exercise:not([open])");
  for (const exercise of closed) exercise.open = true;
});
addEventListener("afterprint", () => {
  root.dataset.theme = theme;
  for (const exercise of closed) exercise.open = false;
});
