"""What is observed of pages, and what can be done on them, in a real browser."""

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from web_pieces import SiteEnv, answer, needs_browser, one_browser, site

from turnwise_envs.web.tree import Row, changes, clipped, rows_of

FORM = """<title>Form</title><h1>A <b>form</b></h1>
<div style="display:none">hidden</div><script>var unseen = 1</script>
<form action="/sent"><label>Name <input name="name"></label><label for="c">Colour</label>
<select id="c" name="colour"><option>Red<option>Blue</select>
<label><input type="checkbox" name="yes"> Agreed</label><input type="radio" aria-label="Big" checked>
<textarea placeholder="Words">two  words</textarea><input readonly value="fixed">
<button disabled>Later</button><input type="submit" value="Send"></form>
<p>Some <b>bold</b> text and <a href="/other">a link</a>.<br>More</p><img src="x.png" alt="A cat">
<table><tr><th>Size<td>Big</tr><tr><td>Pick<td><button>this</button></tr></table>
<div id="pad" onclick="this.textContent = 'hit'">press me</div><div tabindex="0" class="icon"></div>
<svg width="40" height="20"><circle cx="10" cy="10" r="5" fill="red"/><text x="20" y="10">t</text></svg>
<span role="tab" aria-selected="true" aria-expanded="false">One</span>"""

FORM_ROWS = """[1] heading "A form"
[2] textbox "Name"
[3] combobox "Colour"
  [4] option "Red" selected
  [5] option "Blue"
[6] checkbox "Agreed"
[7] radio "Big" checked
[8] textbox "Words" value="two  words" multiline
[9] textbox value="fixed" readonly
[10] button "Later" disabled
[11] button "Send"
[12] text "Some bold text and"
[13] link "a link"
[12] text ". More"
[14] img "A cat"
[15] row "Size | Big"
[16] row
  [17] text "Pick"
  [18] button "this"
[19] clickable "press me"
[20] clickable "icon"
[21] circle color=red
[22] svgtext "t" color=rgb(0,0,0)
[23] tab "One" selected collapsed"""


@pytest.fixture(scope="module", autouse=True)
def browser() -> Iterator[None]:
    with one_browser():
        yield


@pytest.fixture
def play() -> Iterator[Any]:
    """Return a function that begins an episode on pages and returns the environment and a way to act."""
    with ExitStack() as open_ones:

        def begin(*, viewing: dict[str, Any] | None = None, **pages: Any) -> Any:
            env = SiteEnv(open_ones.enter_context(site(**pages)), **(viewing or {}))
            open_ones.callback(env.close)
            messages, _ = env.reset(seed=0)

            def act(action: str) -> str:
                return str(env.step(action)[0][0]["content"])

            act.env, act.first = env, str(messages[0]["content"])  # type: ignore[attr-defined]
            return act

        yield begin


def rows(text: str) -> str:
    """Return an observation without its heading, and without where things are."""
    lines = [line for line in text.splitlines() if not line.startswith(("tab ", "("))]
    return "\n".join(" ".join(word for word in line.split(" ") if not word.startswith("at=")) for line in lines)


@needs_browser
def test_a_page_is_a_tree_of_what_can_be_seen_and_used(play: Any) -> None:
    act = play(index=FORM)
    assert act.first.splitlines()[0].startswith("tab 0*: Form http://127.0.0.1:")
    assert rows(act.first) == FORM_ROWS


@needs_browser
def test_actions_change_the_page_and_the_form_is_sent_as_filled_in(play: Any) -> None:
    act = play(index=FORM, sent="<p>thanks</p>")
    assert '[2] textbox "Name" value="Bob | Co" focused' in act(
        '<tool_call>{"name": "fill", "arguments": {"bid": "2", "text": "Bob | Co"}}</tool_call>'
    )
    assert '[5] option "Blue" selected' in act("select_option 3 | Blue")
    assert '[6] checkbox "Agreed" checked' in act("click 6")
    assert '[19] clickable "hit"' in act("click 19")
    act("press 2 | Control+a")
    assert 'value="x"' in act("press 2 | x")
    assert "thanks" in act("click 11")
    assert "/sent?name=x&colour=Blue&yes=on" in act.env.view.url
    assert "a link" in act("go_back")
    assert "thanks" in act("go_forward")


@needs_browser
@pytest.mark.parametrize(
    ("action", "error"),
    [
        ("click 99", "element 99: it is not on the page"),
        ("click 10", "element 10: it is disabled"),
        ("click 4", "element 4: choose it with select_option in its list"),
        ("fill 1 | x", "element 1: it takes no text"),
        ("fill 9 | x", "element 9: it is read-only"),
        ("select_option 3 | Green", "no option Green; expected one of Red, Blue"),
        ("select_option 2 | Red", "element 2: it is no list of options"),
        ("press 2 | Hop", 'Unknown key: "Hop"'),
        ("click x;alert(1)", "no element x;alert(1): name one by its number in brackets"),
        ("click c3", "no element c3: name one by its number in brackets"),
        ("hover", "hover needs bid"),
        ('<tool_call>{"name": "click", "arguments": {"bid": 1}}</tool_call>', "click needs bid to be text"),
        ("mouse_click 1e9 | 2", "nothing is further than 10000 pixels away"),
        ("noop 60000", "noop waits for 0 to 10000 milliseconds"),
        ("fill 2 | " + "x" * 20_000, "at most 10000 characters at once"),
        ("goto javascript:alert(1)", "an address begins with http:// or https:// and a host, without a user"),
        ("goto file:///etc/passwd", "an address begins with http:// or https:// and a host, without a user"),
        ("goto http://a:b@127.0.0.1/", "an address begins with http:// or https:// and a host, without a user"),
        ("goto http://example.com/", "example.com is not among the hosts that can be reached"),
        ("go_forward", "there is nothing to go forward to"),
        ("tab_focus 5", "no tab 5: there are 1, counted from 0"),
        ("dance", "unknown tool dance; expected one of click, "),
    ],
)
def test_what_cannot_be_done_is_an_error_above_the_page(action: str, error: str, form: Any) -> None:
    messages, reward, terminated, _, info = form.step(action)
    assert messages[0]["content"].startswith(f"error: {error}")
    assert '[2] textbox "Name"' in messages[0]["content"]
    assert (reward, terminated, info["is_valid"]) == (-1.0, False, False)


@pytest.fixture(scope="module")
def form(browser: None) -> Iterator[SiteEnv]:
    with site(index=FORM) as pages:
        env = SiteEnv(pages)
        env.max_turns = None
        env.reset(seed=0)
        yield env
        env.close()


@needs_browser
def test_what_is_covered_or_gone_is_named(play: Any) -> None:
    cover = '<div style="position:fixed;inset:0">cover</div>'
    act = play(index=f"<button onclick='this.remove()'>once</button><button style='opacity:0'>b</button>{cover}")
    assert act("click 1").startswith("error: element 1: something else covers it")
    act = play(index="<button onclick='this.remove()'>once</button>")
    assert act("click 1") == act.first.splitlines()[0]
    assert act("click 1").startswith("error: element 1: it is not on the page")


@needs_browser
def test_dialogs_are_answered_downloads_refused_and_tabs_bounded(play: Any) -> None:
    page = """<button onclick="this.textContent = [alert('hey'), confirm('sure?'), prompt('name?')].join()">a</button>
    <a href="/file">file</a><a href="/" target="_blank">more</a>"""
    act = play(index=page, file=lambda handler: answer(handler, "x", Content_Disposition="attachment; filename=x.bin"))
    said = act("click 1")
    assert "(alert dialog 'hey' was accepted)\n(confirm dialog 'sure?' was accepted)" in said
    assert "(prompt dialog 'name?' was dismissed)" in said
    assert '[1] button ",true,"' in said
    assert "(a download was refused: x.bin)" in act("click 2") + act("noop 100")
    assert "tab 1*" in act("click 3") + act("noop")
    assert "tab 2*" in act("new_tab")
    assert act("new_tab").startswith("error: at most 3 tabs can be open")
    assert "tab 0*" in act("tab_focus 0")
    assert "(a further tab was closed)" in act("click 3") + act("noop 100")
    for _ in range(3):
        last = act("tab_close")
    assert "(the last tab was closed, and an empty one opened)" in last


@needs_browser
def test_frames_are_below_their_element_and_can_be_acted_on(play: Any) -> None:
    act = play(
        index="<p>above</p><iframe src='/in' style='border:7px solid'></iframe><p>below</p>",
        **{"in": "<button onclick='this.textContent = 1'>b</button>"},
    )
    assert rows(act.first) == '[1] text "above"\n[2] iframe\n  [a1] button "b"\n[3] text "below"'
    assert '[a1] button "1"' in act("click a1")


@needs_browser
def test_a_page_that_never_loads_or_hangs_is_said_and_left_again(play: Any) -> None:
    over = threading.Event()
    page = "<button onclick='for(;;);'>hang</button><a href='/never'>n</a>"
    act = play(viewing={"load_s": 2.0}, index=page, never=lambda _: over.wait(20))
    home = act.env.view.url
    assert act(f"goto {home}never").startswith("error: that could not be done in time")
    assert act(f"goto {home}").endswith('[1] button "hang"\n[2] link "n"')
    hung = act("click 1")
    assert hung.startswith("error: that could not be done in time")
    assert "(the page did not come to rest: what it was at was stopped)" in hung
    assert '[2] link "n"' in hung
    over.set()


@needs_browser
def test_what_changed_is_shown_where_that_is_asked_for(play: Any) -> None:
    many = "".join(f"<p>line {number}</p>" for number in range(20))
    act = play(viewing={"observation": "diff"}, index=f"{many}<button onclick='this.remove()'>b</button>")
    assert act.first.count("\n") == 21
    assert act("noop") == "(nothing changed)"
    assert act("click 21") == '- [21] button "b"'


@needs_browser
def test_screenshots_are_saved_and_rows_say_where_they_are(play: Any, tmp_path: Path) -> None:
    act = play(viewing={"screenshots": str(tmp_path / "shots"), "coordinates": True}, index="<button>b</button>")
    assert act.first.splitlines()[1].startswith('[1] button "b" at=8,8,')
    message = act.env.step("noop")[0][0]
    assert message["image"] == str(tmp_path / "shots" / "0-0-1.png")
    assert Path(message["image"]).read_bytes().startswith(b"\x89PNG")


def test_long_pages_are_clipped_from_the_window_on() -> None:
    page = [
        Row(depth=0, bid=str(number), role="text", name="x" * 20, bottom=number * 10.0 - 50) for number in range(20)
    ]
    lines = clipped(page, 200)
    assert lines[0] == "(6 lines above)"
    assert lines[1] == page[6].line
    assert lines[-1] == f"({20 - 6 - (len(lines) - 2)} lines below: scroll to see them)"
    assert clipped(page[:3], 200) == [row.line for row in page[:3]]


def test_changes_are_all_lines_if_that_is_less_and_pages_cannot_break_lines() -> None:
    assert changes(["a", "b"], ["c"]) == ["c"]
    assert changes(["a", "b", "c" * 20], ["a", "d", "c" * 20]) == ["- b", "+ d"]
    (row,) = rows_of([[0, 3, "text", "a\u2028b\ud800", ['value="x"'], 4]])
    assert (row.line, row.value) == ('[3] text "a b?" value="x"', "x")
