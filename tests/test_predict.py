"""Questions before answers: what is asked, what is said to a near miss, what waits in the page."""

import re

import pytest
from axe_playwright_python.sync_playwright import Axe
from bs4 import BeautifulSoup
from refusing import refuses

from conftest import CHAPTERS, tags
from vgglib.widgets import Predict
from vgglib.widgets.predict import index, kind, questions

QUESTIONS = questions()
BY_CHAPTER = {chapter.path.stem: chapter for chapter in CHAPTERS}
ASKED = [BY_CHAPTER[stem] for stem in index()]
NUMBER = "02_design/freedom"
ORDER = "02_design/corners"
CHOICE = "02_design/shallow"
PAGE = "notebooks/02_design.html"

# What a chapter asks ------------------------------------------------------------------------


@pytest.fixture(params=ASKED, ids=lambda chapter: chapter.path.stem)
def asking(request):
    """Each chapter that asks questions."""
    return request.param


def controls(chapter):
    """Number of the cell → (name of the question, cell) of each control."""
    return {
        number: (re.search(r'Predict\("([^"]+)"\)', cell.source)[1], cell)
        for number, cell in enumerate(chapter.cells)
        if "predict" in tags(cell)
    }


def test_a_chapter_asks_each_of_its_questions_once(asking):
    shown = [name for name, _ in controls(asking).values()]
    own = [name for name in QUESTIONS if name.startswith(f"{asking.path.stem}/")]
    assert sorted(shown) == sorted(own)
    *predictions, check = shown
    assert len(predictions) >= 4
    assert check.endswith("/check") and 3 <= len(QUESTIONS[check]) <= 5


def test_a_chapter_stores_its_questions_as_they_are_now(asking):
    for name, cell in controls(asking).values():
        assert cell.outputs[0].data["text/html"] == Predict(name).html(), "run `make notebooks`"
        assert {"hide-input", "widget"} <= set(tags(cell))


def test_the_chapter_computes_the_truth_after_the_question(asking):
    """A later cell hands what it computed to ``see``, and the outputs that tell it wait."""
    for number, (name, _) in controls(asking).items():
        question = name.partition("/")[2]
        if question == "check":
            continue
        seen = [i for i, c in enumerate(asking.cells) if f"ask_{question}.see(" in c.source]
        waiting = [i for i, c in enumerate(asking.cells) if f"see-{question}" in tags(c)]
        assert len(seen) == 1 and seen[0] > number, f"no cell computes {name}"
        assert waiting and min(waiting) > number, f"no output waits for {name}"
        assert all(asking.cells[i].outputs for i in waiting), f"nothing to fold for {name}"
        call = re.search(rf"ask_{question}\.see\((.*)", asking.cells[seen[0]].source)[1]
        assert not re.fullmatch(r"""[\d.]+\)|"[^"]*"\)""", call), f"{name}: computed, not typed"


def test_every_check_asks_why_with_a_sentence_for_each_wrong_choice(asking):
    check = QUESTIONS[f"{asking.path.stem}/check"]
    choices = [question["choices"] for question in check if "choices" in question]
    assert len(choices) >= 3
    for offered in choices:
        assert len(set(offered.values())) == len(offered) >= 3


# In Python ----------------------------------------------------------------------------------


def test_only_the_truth_is_seen():
    ask = Predict(NUMBER)
    with refuses(AssertionError, got=27, accepts=25, remedy="02_design.json"):
        ask.see(27)
    assert not ask.shown
    ask.see(25)
    assert ask.shown
    about = Predict(questions=[{"ask": "How much?", "truth": 10, "within": 0.1}])
    about.see(10.9)
    with refuses(AssertionError, got=11.5, accepts=10):
        about.see(11.5)
    with refuses(AssertionError, got="more", accepts="less"):
        Predict(CHOICE).see("more")


@pytest.mark.parametrize(
    ("question", "named"),
    [
        ({"truth": 3}, ("'ask'", "'truth'")),
        ({"ask": "Why?", "truth": "a"}, ("'choices'", "'order'")),
        ({"ask": "Why?", "truth": "a", "choices": {"b": "no", "c": "no"}}, ("'a'", "'choices'")),
        ({"ask": "Why?", "truth": "a", "choices": {"a": "yes", "b": ""}}, ("'b'", "'choices'")),
        ({"ask": "Which?", "truth": ["a", "b"], "order": ["a", "c"]}, ("'c'", "'order'")),
        ({"ask": "Which?", "truth": ["a", "b"], "order": ["a", "b"]}, ("'b'", "'order'")),
        (
            {
                "ask": "Which?",
                "truth": ["a", "b"],
                "order": ["b", "a"],
                "near": [["a", "b", "?"]],
            },
            ("'a'", "'b'", "'near'"),
        ),
        ({"ask": "How many?", "truth": 3, "near": [[[2, 4], "near"]]}, (3, "[2, 4]")),
    ],
)
def test_a_question_that_cannot_be_answered_is_refused(question, named):
    with refuses(ValueError, got=named):
        Predict(questions=[question])


def test_an_unknown_question_is_refused():
    with refuses(ValueError, got="'02_design/nothing'", accepts=NUMBER):
        Predict("02_design/nothing")


@pytest.mark.parametrize("name", [NUMBER, ORDER, CHOICE, "02_design/check"])
def test_the_page_holds_question_and_folded_answer_as_text(name):
    soup = BeautifulSoup(Predict(name).html(), "html.parser")
    assert soup.div["class"] == ["predict"]
    fallback = soup.find(class_="vgg-fallback")
    folded = [details.extract().get_text() for details in fallback.find_all("details")]
    for question, answer in zip(QUESTIONS[name], folded, strict=True):
        assert question["ask"] in fallback.get_text()
        for offered in [*question.get("choices", ()), *question.get("order", ())]:
            assert offered in fallback.get_text()
        truth = question["truth"]
        assert (", ".join(truth) if isinstance(truth, list) else str(truth)) in answer
        assert all(say in answer for say in question.get("choices", {}).values())


# What an answer is worth --------------------------------------------------------------------


def test_numbers_are_read_as_people_write_them(module):
    written = {
        "27": 27,
        " 1,315 ": 1315,
        "16 388 000": 16388000,
        "138 million": 138e6,
        "4.1M": 4.1e6,
        "1.8×": 1.8,
        "12 %": 12,
        "0,5": 0.5,
        "−3": -3,
        ".5": 0.5,
        "1e-3": 1e-3,
        "about seven": None,
        "": None,
    }
    found = {text: module("predict.js", "number", text) for text in written}
    assert found == pytest.approx(written)


def test_the_truth_is_right_and_each_near_miss_gets_its_sentence(module):
    for name, asked in QUESTIONS.items():
        for question in asked:
            right = module("predict.js", "judge", question, question["truth"])
            assert right["right"], name
            for answer, sentence in near_misses(question):
                said = module("predict.js", "judge", question, answer)
                assert not said["right"] and said["say"].startswith(sentence), (name, answer)


def near_misses(question):
    """Wrong answers that a sentence is kept for, with that sentence."""
    sort = kind(question)
    if sort == "choice":
        others = question["choices"].items()
        return [(choice, say) for choice, say in others if choice != question["truth"]]
    if sort == "number":
        near = [(at if isinstance(at, list) else [at, at], say) for at, say in question["near"]]
        return [(sum(ends) / 2, say) for ends, say in near]
    found = []
    for first, second, say in question["near"]:
        answer = list(question["truth"])
        answer.insert(answer.index(second), answer.pop(answer.index(first)))
        if not any(answer.index(a) < answer.index(b) for a, b, other in question["near"]
                   if other != say):  # fmt: skip
            found.append((answer, say))
    return found


def test_any_other_number_hears_how_far_it_is_off(module):
    question = {"ask": "How many?", "truth": 100}
    said = {n: module("predict.js", "judge", question, n)["say"] for n in (300, 110, 20, -1)}
    assert "3" in said[300] and "10 %" in said[110] and "5" in said[20]
    assert len(set(said.values())) == 4


# In the browser -----------------------------------------------------------------------------


def kept(page):
    return page.evaluate(
        "Object.fromEntries(Object.entries(localStorage).filter(([k]) => k.startsWith('very-')))"
    )


def test_a_near_miss_stands_beside_the_truth_and_stays_over_a_reload(mounted):
    visit = mounted(Predict(NUMBER))
    page = visit.page
    box, result = page.get_by_role("textbox"), page.locator(".predict-result")
    assert not result.is_visible()
    box.fill("many")
    box.press("Enter")
    assert box.get_attribute("aria-invalid") == "true" and not result.is_visible()
    box.fill("27")
    box.press("Enter")
    (question,) = QUESTIONS[NUMBER]
    said = result.inner_text()
    assert "27 numbers" in said and "25 numbers" in said and question["because"] in said
    assert question["near"][0][1] in said and result.get_attribute("data-right") == "false"
    assert page.evaluate("document.activeElement.className") == "predict-result"
    assert kept(page) == {f"very-deep:answer:{NUMBER}": "27"}
    page.reload()
    page.wait_for_selector("[data-ready]")
    assert box.input_value() == "27" and box.is_disabled() and result.is_visible()
    page.get_by_role("button", name="Answer again").click()
    assert box.is_enabled() and not result.is_visible() and kept(page) == {}
    assert visit.errors == []


def test_an_order_is_made_by_keyboard(mounted):
    page = mounted(Predict(ORDER)).page
    page.get_by_role("button", name="Move 3 × 6 of 3×3, 3 ReLU up").focus()
    for _ in range(3):
        page.keyboard.press("Enter")
    page.get_by_role("button", name="Move 16 of 7×7, 1 ReLU up").focus()
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Move 3 × 6 of 3×3, 1 ReLU up").focus()
    page.keyboard.press("Space")
    assert page.locator("li > span").all_inner_texts() == QUESTIONS[ORDER][0]["truth"]
    page.get_by_role("button", name="Answer", exact=True).focus()
    page.keyboard.press("Enter")
    assert page.locator(".predict-result").get_attribute("data-right") == "true"


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_a_check_fits_a_phone_and_axe_finds_nothing(mounted, theme):
    page = mounted(Predict("02_design/check"), width=360, theme=theme, has_touch=True).page
    asked = QUESTIONS["02_design/check"]
    for number, question in enumerate(asked):
        group = page.get_by_role("group", name=question["ask"])
        choice = list(question["choices"])[number % 3]
        group.get_by_text(choice).tap()
        group.get_by_role("button", name="Answer", exact=True).tap()
        assert question["choices"][choice] in group.locator(".predict-result").inner_text()
    right = sum(list(q["choices"])[n % 3] == q["truth"] for n, q in enumerate(asked))
    assert f"{len(asked)} of {len(asked)}" in page.locator(".predict-count").inner_text()
    assert f" {right} " in page.locator(".predict-count").inner_text()
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    assert Axe().run(page, context=".predict").response["violations"] == []


def test_what_is_begun_in_one_question_outlasts_an_answer_to_another(mounted):
    page = mounted(Predict("03_recipe/check")).page
    page.get_by_role("textbox").fill("3")
    page.get_by_role("button", name="Show me").first.click()
    assert page.get_by_role("textbox").input_value() == "3"


def test_a_browser_that_keeps_nothing_still_answers(mounted):
    visit = mounted(Predict(CHOICE))
    refuse = (
        """Object.defineProperty(window, "localStorage", { get() { throw new Error("no"); } })"""
    )
    visit.page.add_init_script(refuse)
    visit.page.reload()
    visit.page.wait_for_selector("[data-ready]")
    visit.page.get_by_label("less").check()
    visit.page.get_by_role("button", name="Answer", exact=True).click()
    assert visit.page.locator(".predict-result").get_attribute("data-right") == "true"
    assert visit.errors == []


def test_an_answer_that_no_longer_fits_is_dropped(mounted):
    page = mounted(Predict(CHOICE)).page
    page.evaluate(f"localStorage.setItem('very-deep:answer:{CHOICE}', '\"twice\"')")
    page.reload()
    page.wait_for_selector("[data-ready]")
    assert page.get_by_role("button", name="Answer", exact=True).is_visible()


# In the book --------------------------------------------------------------------------------


def cell(page, question):
    return page.locator(f".cell.tag_see-{question}").first


def ready(page):
    page.wait_for_function(
        "[...document.querySelectorAll('[data-widget=predict]')].every(w => 'ready' in w.dataset)"
    )


def shows(page, question):
    """Whether a reader sees the output and the words below; hidden until found they have a box."""
    output = cell(page, question).locator(".cell_output")
    said = cell(page, question).locator("xpath=following-sibling::*[1][self::p]")
    seen = {
        part.evaluate(
            "el => el.checkVisibility() && getComputedStyle(el).contentVisibility === 'visible'"
        )
        for part in (output, *said.all())
    }
    assert len(seen) == 1, "an output and what is said of it part"
    return seen.pop()


def test_an_output_waits_until_its_question_is_answered(open_page):
    visit = open_page(PAGE)
    page = visit.page
    ready(page)
    waiting = [name.partition("/")[2] for name in index()["02_design"] if "/check" not in name]
    assert not any(shows(page, question) for question in waiting)
    assert not any(code.is_visible() for code in page.locator(".tag_predict summary").all())
    (asked,) = QUESTIONS[NUMBER]
    group = page.get_by_role("group", name=asked["ask"])
    group.get_by_role("textbox").fill("25")
    group.get_by_role("button", name="Answer", exact=True).click()
    assert [q for q in waiting if shows(page, q)] == ["freedom"]
    cell(page, "bell").get_by_role("button", name="Show it").click()
    assert shows(page, "bell")
    page.reload()
    ready(page)
    assert [q for q in waiting if shows(page, q)] == ["freedom", "bell"]
    page.goto(page.url.replace(PAGE, "book/index.html"))
    done = f"1 of {len(index()['02_design'])} "
    card = page.locator(".sd-card", has_text="2 Design")
    card.get_by_text(done).wait_for()
    assert visit.errors == [] and visit.foreign == []


def test_a_link_and_a_search_open_what_waits(open_page):
    page = open_page(f"{PAGE}#claim-2-3").page
    ready(page)
    assert shows(page, "freedom") and not shows(page, "bell")
    page.evaluate("location.hash = 'claim-2-13'")
    page.wait_for_function("!document.querySelector('.tag_see-bell .predict-held')")
    assert shows(page, "bell")
    found = cell(page, "corners").locator(".cell_output")
    assert found.get_attribute("hidden") == "until-found"
    found.evaluate("el => el.dispatchEvent(new Event('beforematch'))")
    assert shows(page, "corners")


def test_nothing_waits_without_scripts(open_page):
    page = open_page(PAGE, java_script_enabled=False).page
    page.locator(".predict details").nth(6).wait_for(state="attached")
    assert page.locator(".predict-held").count() == 0
    for output in page.locator("[class*=tag_see-] .cell_output").all():
        assert output.is_visible()


def test_nothing_waits_on_paper(open_page):
    page = open_page(PAGE).page
    ready(page)
    page.emulate_media(media="print")
    for question in ("freedom", "bell", "corners"):
        assert shows(page, question)
    plain = page.locator(".predict .vgg-fallback").first
    assert plain.is_visible() and not page.locator(".predict .vgg").first.is_visible()
    assert plain.locator("details p").first.evaluate(
        "el => el.checkVisibility({ contentVisibilityAuto: true })"
    )


def test_axe_finds_nothing_where_outputs_wait(open_page):
    page = open_page(PAGE, width=360, theme="dark").page
    ready(page)
    context = {"include": [[".predict"], [".predict-held"]]}
    assert Axe().run(page, context=context).response["violations"] == []
