// Small things that the theme leaves out.

// What scrolls inside itself can be reached by keyboard (the theme sees to that) and says what it is.
const KINDS = [
  ["pre", "Code or output, scrolls sideways"],
  [".pst-scrollable-table-container, .cell_output > .output", "Table or output, scrolls sideways"],
  ["div.math", "Formula, scrolls sideways"],
];

function label() {
  for (const [selector, name] of KINDS) {
    for (const box of document.querySelectorAll(`.bd-article :is(${selector})`)) {
      const scrolls = box.scrollWidth > box.clientWidth && getComputedStyle(box).overflowX !== "visible";
      if (scrolls) {
        box.tabIndex = 0;
        box.setAttribute("role", "group");
        box.setAttribute("aria-label", name);
      } else if (box.getAttribute("aria-label") === name) {
        for (const attribute of ["tabindex", "role", "aria-label"]) box.removeAttribute(attribute);
      }
    }
  }
}

label();
new ResizeObserver(label).observe(document.querySelector(".bd-article") ?? document.body);

// Paper is white: a page is printed in the light theme, whatever is on the screen.
const root = document.documentElement;
let theme;
addEventListener("beforeprint", () => {
  theme = root.dataset.theme;
  root.dataset.theme = "light";
});
addEventListener("afterprint", () => {
  root.dataset.theme = theme;
});
