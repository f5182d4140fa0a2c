import { button, change, follow, h, panel, thousands } from "./common.js";

// ---------------------------------------------------------------- what an answer is worth

/** A number as people write it: "27,000", "1.8×", "12 %", "138 million"; NaN if it is none. */
export function number(text) {
  const plain = text.trim().replace(/[−–]/g, "-").replace(/(\d)[,  ](?=\d{3}(?!\d))/g, "$1");
  const found = /^([-+]?(?:\d+\.?\d*|\.\d+)(?:e[-+]?\d+)?)\s*(k|m|thousand|million|billion)?\b/i;
  const [whole, digits, unit] = found.exec(plain.replace(/^(-?\d+),(\d+)/, "$1.$2")) ?? [];
  if (whole === undefined) return NaN;
  const factors = { k: 1e3, thousand: 1e3, m: 1e6, million: 1e6, billion: 1e9 };
  return Number(digits) * (factors[unit?.toLowerCase()] ?? 1);
}

/** Is the answer right, and what is said to it? */
export function judge(question, answer) {
  const { truth, near = [], choices, order, within = 0 } = question;
  if (choices) return { right: answer === truth, say: choices[answer] };
  if (order) {
    const before = (list, [first, second]) => list.indexOf(first) < list.indexOf(second);
    const pairs = truth.flatMap((a, i) => truth.slice(i + 1).map((b) => [a, b]));
    const wrong = pairs.filter((pair) => !before(answer, pair)).length;
    if (!wrong) return { right: true, say: "" };
    const say = near.find((pair) => before(answer, pair))?.[2];
    const count = `${wrong} of ${pairs.length} pairs stand the wrong way round.`;
    return { right: false, say: say ? `${say} (${count})` : count };
  }
  const close = (value, by) => Math.abs(answer - value) <= Math.max(by, 1e-9) * Math.abs(value);
  if (close(truth, within)) return { right: true, say: "" };
  const met = near.find(([at]) =>
    Array.isArray(at) ? at[0] <= answer && answer <= at[1] : close(at, 0.005),
  );
  return { right: false, say: met ? met[1] : distance(answer, truth) };
}

function distance(answer, truth) {
  const way = answer > truth ? "high" : "low";
  const times = answer / truth;
  if (!(times > 0) || !isFinite(times)) return `Too ${way}.`;
  const factor = Math.max(times, 1 / times);
  if (factor >= 1.5) return `Too ${way} by a factor of ${shown(Number(factor.toPrecision(2)))}.`;
  return `Too ${way} by ${shown(Number((100 * Math.abs(times - 1)).toPrecision(2)))} %.`;
}

function shown(value) {
  if (Array.isArray(value)) return value.join(" · ");
  if (typeof value !== "number") return value;
  return value && Math.abs(value) < 0.001 ? String(value) : thousands(value, 4);
}

/** Whether something kept by the browser can be an answer to the question as it is now. */
export function fits({ choices, order }, answer) {
  if (choices) return Object.hasOwn(choices, answer);
  if (!order) return Number.isFinite(answer);
  return Array.isArray(answer) && String([...answer].sort()) === String([...order].sort());
}

// ---------------------------------------------------------------- what the browser keeps

// A browser may refuse (private windows, blocked cookies): then answers last as long as the page.
function kept(what, name) {
  try {
    return JSON.parse(localStorage.getItem(`very-deep:${what}:${name}`));
  } catch {
    return null;
  }
}

function keep(what, name, value) {
  try {
    if (value === null) localStorage.removeItem(`very-deep:${what}:${name}`);
    else localStorage.setItem(`very-deep:${what}:${name}`, JSON.stringify(value));
  } catch {}
}

// ---------------------------------------------------------------- the three kinds of answer

// Each gives what is put into the page, `read()`, which is null as long as there is no answer,
// `write(answer)` and `enable(on)`.

function numberInput({ unit }) {
  const error = h("span", { className: "vgg-error", role: "alert" });
  const input = h("input", { type: "text", inputMode: "decimal", autocomplete: "off" });
  input.setAttribute("aria-label", unit ? `Your answer in ${unit}` : "Your answer");
  const read = () => {
    const value = number(input.value);
    input.setAttribute("aria-invalid", Number.isNaN(value));
    error.textContent = Number.isNaN(value) ? "A number is asked for, such as 12 or 0.5." : "";
    return Number.isNaN(value) ? null : value;
  };
  const clear = () => {
    input.setAttribute("aria-invalid", false);
    error.textContent = "";
  };
  return {
    parts: [h("div", { className: "predict-number" }, input, unit ?? ""), error],
    read,
    write: (value) => (clear(), (input.value = value === null ? "" : shown(value))),
    enable: (on) => (input.disabled = !on),
    first: input,
  };
}

function choiceInput({ choices }, name) {
  const error = h("span", { className: "vgg-error", role: "alert" });
  const boxes = Object.keys(choices).map((value) => h("input", { type: "radio", name, value }));
  const labels = boxes.map((box) =>
    h("label", { className: "predict-choice" }, box, h("span", {}, box.value)),
  );
  return {
    parts: [...labels, error],
    read: () => {
      const chosen = boxes.find((box) => box.checked)?.value ?? null;
      error.textContent = chosen === null ? "Choose one of them first." : "";
      return chosen;
    },
    write: (value) => {
      error.textContent = "";
      boxes.forEach((box) => (box.checked = box.value === value));
    },
    enable: (on) => boxes.forEach((box) => (box.disabled = !on)),
    first: boxes[0],
  };
}

function orderInput({ order }) {
  const list = h("ol", { className: "predict-order" });
  let items = [...order];
  let on = true;
  const move = (item, by) => {
    const at = items.indexOf(item);
    items.splice(at, 1);
    items.splice(at + by, 0, item);
    draw();
    const row = list.children[at + by];
    const [up, down] = row.querySelectorAll("button");
    const same = by < 0 ? up : down;
    (same.disabled ? (by < 0 ? down : up) : same).focus();
  };
  function draw() {
    list.replaceChildren(
      ...items.map((item, at) => {
        const step = (by, sign, word, disabled) =>
          button(sign, () => move(item, by), {
            ariaLabel: `Move ${item} ${word}`,
            disabled: disabled || !on,
          });
        const up = step(-1, "↑", "up", at === 0);
        const down = step(1, "↓", "down", at === items.length - 1);
        return h("li", {}, h("span", {}, item), up, down);
      }),
    );
  }
  draw();
  return {
    parts: [list],
    read: () => [...items],
    write: (value) => {
      items = [...(value ?? order)];
      draw();
    },
    enable: (now) => {
      if (now === on) return;
      on = now;
      draw();
    },
    get first() {
      return list.querySelector("button:not(:disabled)");
    },
  };
}

// ---------------------------------------------------------------- a question

function verdict(question, answer) {
  const { truth, unit = "", because = "", choices } = question;
  const say = (value) => `${shown(value)} ${unit}`.trim();
  const row = (term, text) => [h("dt", {}, term), h("dd", {}, text)];
  if (answer === null) {
    const why = [choices?.[truth], because].filter(Boolean).join(" ");
    return [h("dl", {}, ...row("The chapter", say(truth))), h("p", {}, why)];
  }
  const { right, say: said } = judge(question, answer);
  const words = h("p", {}, h("strong", {}, right ? "Right. " : "Not so. "), said);
  const why = [right ? "" : choices?.[truth], because].filter(Boolean).join(" ");
  const both = [...row("You", say(answer)), ...row("The chapter", say(truth))];
  return [h("dl", {}, ...both), words, ...(why ? [h("p", {}, why)] : [])];
}

function card(question, name, { answered, show }) {
  const kinds = [
    [question.choices, choiceInput],
    [question.order, orderInput],
  ];
  const input = (kinds.find(([has]) => has)?.[1] ?? numberInput)(question, name);
  const result = h("div", { className: "predict-result", tabIndex: -1, role: "group" });
  result.setAttribute("aria-label", "The answer");
  const answer = button("Answer", () => {
    const value = input.read();
    if (value === null) return input.first.focus();
    answered(value);
    result.focus();
  });
  const showMe = button("Show me", () => (show(), result.focus()));
  const again = button("Answer again", () => (answered(null), input.first.focus()));
  const buttons = h("div", { className: "predict-buttons" }, answer, showMe, again);
  const form = h(
    "fieldset",
    {
      onkeydown: (event) => {
        if (event.key !== "Enter" || event.target.tagName !== "INPUT") return;
        event.preventDefault();
        answer.click();
      },
    },
    h("legend", {}, question.ask),
    ...input.parts,
    buttons,
    result,
  );
  let written = null;
  const update = (value, seen) => {
    const over = value !== null || seen;
    if (String(value) !== String(written)) input.write((written = value)); // else leave what is begun
    input.enable(!over);
    answer.hidden = showMe.hidden = over;
    again.hidden = !over;
    result.hidden = !over;
    result.replaceChildren(...(over ? verdict(question, value) : []));
    result.dataset.right = value === null ? "" : judge(question, value).right;
  };
  return { form, update };
}

// ---------------------------------------------------------------- what waits

/** What is said of a cell's output: all that follows up to the next cell, claim or heading. */
function said(cell) {
  const found = [];
  let part = cell.nextElementSibling;
  for (; part && !part.matches(".cell, section, blockquote"); part = part.nextElementSibling) {
    found.push(part);
  }
  // The last of several, where a cell follows that does not wait, is said of that one.
  if (found.length > 1 && part?.matches(".cell:not([class*=tag_see-])")) found.pop();
  return found;
}

/** Hide the outputs that wait for a question and what is said of them; gives what shows them. */
function hold(el, name, show) {
  const place = el.closest(".vgg-widget")?.id;
  const cells = place
    ? [...document.querySelectorAll(`.cell.tag_see-${CSS.escape(name.split("/").pop())}`)]
    : []; // a notebook
  const held = cells.flatMap((cell) => [...cell.querySelectorAll(".cell_output"), ...said(cell)]);
  // One note a section: several below each other look broken.
  const section = (part) => part?.closest("section");
  const first = held.filter((part, i) => !i || section(part) !== section(held[i - 1]));
  const notes = first.map((part) => {
    const note = h(
      "p",
      { className: "predict-held" },
      "What comes out waits for ",
      h("a", { href: `#${place}` }, "your prediction"),
      ". ",
      button("Show it", show),
    );
    part.before(note);
    return note;
  });
  held.forEach((part) => {
    // A search in the page, or a link into it, finds what is hidden until it is found.
    part.classList.add("predict-waits");
    part.setAttribute("hidden", "onbeforematch" in part ? "until-found" : "");
    part.addEventListener("beforematch", show);
  });
  const linked = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target || ![...cells, ...held].some((part) => part.contains(target))) return;
    show();
    target.scrollIntoView();
  };
  const open = () => {
    notes.forEach((note) => note.remove());
    held.forEach((part) => part.removeAttribute("hidden"));
    removeEventListener("hashchange", linked);
  };
  if (held.length) addEventListener("hashchange", linked);
  return { open, linked };
}

// ---------------------------------------------------------------- the widget

function render({ model, el }) {
  if (!el.closest(".predict")) el.classList.add("predict");
  const name = model.get("name");
  const questions = model.get("questions");
  const places = questions.map((_, i) => (questions.length > 1 ? `${name}/${i + 1}` : name));

  const before = {};
  questions.forEach((question, i) => {
    const answer = kept("answer", places[i]);
    if (answer !== null && fits(question, answer)) before[places[i]] = answer;
  });
  if (!Object.keys(model.get("answers")).length && Object.keys(before).length) {
    change(model, "answers", before);
  }

  const cards = questions.map((question, i) => {
    const place = places[i];
    const show = () => {
      seen.add(place);
      keep("shown", place, true);
      update();
    };
    const answered = (value) => {
      const { [place]: _, ...others } = model.get("answers");
      keep("answer", place, value);
      if (value === null) {
        seen.delete(place);
        keep("shown", place, null);
        if (model.get("shown")) change(model, "shown", false);
      }
      change(model, "answers", value === null ? others : { ...others, [place]: value });
      update();
    };
    return { show, ...card(question, place, { answered, show }) };
  });
  const seen = new Set(places.filter((place) => kept("shown", place)));
  const count = h("p", { className: "predict-count" });
  const held = questions.length === 1 ? hold(el, name, cards[0].show) : null;

  function update() {
    const answers = model.get("answers");
    const given = places.map((place) => answers[place] ?? null);
    cards.forEach(({ update }, i) =>
      update(given[i], seen.has(places[i]) || model.get("shown")),
    );
    if (held && (given[0] !== null || seen.has(name) || model.get("shown"))) held.open();
    const right = questions.filter((q, i) => given[i] !== null && judge(q, given[i]).right);
    const done = given.filter((answer) => answer !== null).length;
    count.textContent = `${done} of ${places.length} answered, ${right.length} right.`;
  }

  const title = questions.length > 1 ? "Check yourself" : "Predict";
  const heading = h("p", { className: "predict-title" }, title);
  const label = `${title}: ${name.split("/").pop()}`; // no two of a page are called the same
  const frame = panel(el, label, heading, ...cards.map(({ form }) => form));
  if (questions.length > 1) frame.append(count);
  held?.linked();
  const stop = follow(model, ["answers", "shown"], update);
  return () => {
    stop();
    held?.open();
  };
}

export default { render };
