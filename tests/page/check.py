#!/usr/bin/env python3
"""Opens the pages that tests/it/page.rs has written in a headless Chromium, and asserts what a reader would notice.

    check.py FOLDER [PICTURES]    with PICTURES, screenshots are kept there
"""

import os
import pathlib
import sys
import unittest

sys.path.insert(0, os.path.dirname(__file__))
from webdriver import Browser  # noqa: E402

TAB, LEFT, RIGHT, DOWN, ESCAPE = "\ue004", "\ue012", "\ue014", "\ue015", "\ue00c"

# Not an assertion of each test: whatever a page does, these hold.
OVERFLOW = "return document.scrollingElement.scrollWidth - document.documentElement.clientWidth"
PANEL = "const p = document.querySelector('#picture > .panel'); return p.hidden ? null : p.innerText"
VIEW = "const s = document.getElementById('picture').style; return [Number(s.getPropertyValue('--f')), Number(s.getPropertyValue('--w'))]"
# Whether a mark is within what the picture shows.
VISIBLE = """
const box = arguments[0].getBoundingClientRect(), axis = document.querySelector('.axis').getBoundingClientRect();
return box.right > axis.left && box.left < axis.right && Number(getComputedStyle(arguments[0]).opacity) > 0;
"""


class PageTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.browser = Browser()
        cls.addClassCleanup(cls.browser.close)

    def open(self, name, width=1280, height=900, fragment="", **screen):
        self.browser.screen(width, height, **screen)
        self.browser.open((PAGES / f"{name}.html").as_uri() + fragment)

    def tearDown(self):
        self.assertEqual(self.browser.complaints(), [], "the console was told of something")

    def keep(self, name, whole=False):
        if PICTURES:
            self.browser.picture(PICTURES / f"{name}.png", whole)

    def focus(self, selector):
        self.browser.run("document.querySelector(arguments[0]).focus()", selector)

    def test_opens_at_the_first_incident(self):
        self.open("day")
        self.keep("day")
        start, width = self.browser.run(VIEW)
        # The first incident begins at 07:30:02.250.
        began = (7 * 3600 + 30 * 60 + 2) * 1000 + 250
        self.assertLess(start, began)
        self.assertGreater(start + width, began + 2_000)
        self.assertLess(width, 30_000)
        self.assertEqual(self.browser.run("return document.querySelector('#incidents a[aria-current]').textContent.includes('web-1 unhealthy')"), True)
        # What moved is told without a click.
        told = self.browser.run(PANEL)
        self.assertIn("web-1 is unhealthy (http:8080/health: connection refused), web-2 is healthy: 203.0.113.7 moves to web-2.", told)
        self.assertIn("web-3: drain", told)
        # The outage and both holders are in sight, and say in words what they are.
        shown = self.browser.run("""
            const first = document.querySelector('.run');
            const visible = (mark) => { %s };
            return [...first.querySelectorAll('.s')].filter((mark) => visible(mark)).map((mark) => mark.querySelector('b').innerText);
        """ % VISIBLE.replace("arguments[0]", "mark"))
        self.assertIn("A web-1", shown)
        self.assertIn("B web-2", shown)
        self.assertTrue(any(text.startswith("no service") for text in shown), shown)
        self.assertIn("unhealthy", shown)

    def test_links_and_buttons_move_the_view(self):
        self.open("day")
        first = self.browser.run(VIEW)
        self.browser.run("document.querySelectorAll('#incidents a')[1].click()")
        second = self.browser.run(VIEW)
        self.assertGreater(second[0], first[0])
        click = "const b = [...document.querySelectorAll('.tools button')].find((b) => b.textContent === arguments[0]); b.click(); return b.disabled"
        self.browser.run(click, "−")
        self.assertEqual(self.browser.run(VIEW)[1], 2 * second[1])
        self.assertTrue(self.browser.run(click, "Whole"))
        self.assertEqual(self.browser.run(VIEW), [0, 86_400_000])
        self.keep("whole")
        labels = self.browser.run("return [...document.querySelectorAll('.tick')].map((tick) => tick.innerText)")
        self.assertGreaterEqual(len(labels), 4)
        self.assertIn("12:00", labels)
        # A link from elsewhere opens at its incident.
        self.open("day", fragment="#incident-3")
        self.assertGreater(self.browser.run(VIEW)[0], second[0])

    def test_the_keyboard_reaches_every_mark_and_its_reason(self):
        self.open("day")
        self.focus(".held .s")
        self.assertIn("It was there already.", self.browser.run(PANEL))
        self.browser.press(RIGHT)
        self.assertIn("moves to web-2", self.browser.run(PANEL))
        self.keep("keyboard")
        self.browser.press(DOWN)
        self.assertIn("no service", self.browser.run(PANEL))
        ring = "const s = getComputedStyle(document.activeElement); return s.outlineStyle + s.outlineWidth"
        self.assertEqual(self.browser.run(ring), "solid3px")
        # What lies outside is brought into view.
        self.browser.press(RIGHT)
        self.assertTrue(self.browser.run("const mark = document.activeElement;" + VISIBLE.replace("arguments[0]", "mark")))
        # Tab leaves the lane: a lane is one stop, not thousands.
        before = self.browser.run("return document.activeElement.parentElement.className")
        self.browser.press(TAB)
        self.assertNotEqual(self.browser.run("return document.activeElement.closest('.track, .panel').className"), before)
        self.browser.press(ESCAPE)
        # Every mark is a button with a name that tells what, when and why.
        names = self.browser.run("return [...document.querySelectorAll('.track > *')].map((mark) => mark.tagName + ' ' + mark.textContent.trim())")
        self.assertGreater(len(names), 100)
        for name in names:
            self.assertRegex(name, r"^BUTTON .+ \d\d:\d\d:\d\d\.\d\d\d.* .+")

    def test_pointing_and_tapping_tell_the_reason(self):
        self.open("day", height=1400)
        place = "document.querySelector(arguments[0]).scrollIntoView({ block: 'center', behavior: 'instant' }); const box = document.querySelector(arguments[0]).getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]"
        self.browser.point(*self.browser.run(place, ".outages .s"))
        self.assertIn("web-1 held the address and did not serve.", self.browser.run(PANEL))
        self.browser.point(5, 5)
        self.assertIn("moves to web-2", self.browser.run(PANEL))
        self.open("day", width=360, height=1400, touch=True)
        self.browser.point(*self.browser.run(place, ".outages .s"), kind="touch", press=True)
        self.assertIn("web-1 held the address and did not serve.", self.browser.run(PANEL))

    def test_nothing_overflows_on_any_screen(self):
        for name in ["day", "simulated", "hostile", "endless", "empty"]:
            for width, dark in [(360, False), (360, True), (768, False), (1280, True)]:
                with self.subTest(page=name, width=width, dark=dark):
                    self.open(name, width=width, dark=dark, touch=width == 360)
                    self.assertLessEqual(self.browser.run(OVERFLOW), 0)
                    self.keep(f"{name}-{width}{'-dark' if dark else ''}")

    def test_dark_is_dark_and_contrasts_are_enough(self):
        # WCAG's contrast of a mark's text against its own ground and of the page's text; 4.5 is enough for small text.
        script = """
            const light = (color) => {
              const [r, g, b] = color.match(/[\\d.]+/g).map(Number).map((c) => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
              return 0.2126 * r + 0.7152 * g + 0.0722 * b;
            };
            const contrast = (one, other) => { const [a, b] = [light(one), light(other)].sort((x, y) => y - x); return (a + 0.05) / (b + 0.05); };
            const body = getComputedStyle(document.body);
            const found = [['page', contrast(body.color, body.backgroundColor)], ['faint', contrast(getComputedStyle(document.querySelector('.range')).color, body.backgroundColor)]];
            for (const mark of document.querySelectorAll('.track .s')) {
              const label = mark.querySelector('b');
              const ground = [label, mark].map((one) => getComputedStyle(one).backgroundColor).find((color) => !color.startsWith('rgba(0, 0, 0, 0'));
              if (ground) found.push([mark.className, contrast(getComputedStyle(label).color, ground)]);
            }
            return [light(body.backgroundColor), found];
        """
        for dark in [False, True]:
            self.open("day", dark=dark)
            ground, contrasts = self.browser.run(script)
            self.assertEqual(ground < 0.1, dark)
            self.assertGreater(len({name for name, _ in contrasts}), 5)
            for name, contrast in contrasts:
                self.assertGreaterEqual(contrast, 4.5, f"{name}, dark: {dark}")

    def test_paper_has_everything(self):
        self.open("day")
        self.browser.paper()
        text = self.browser.run("return document.body.innerText")
        for needed in [
            "3 incidents", "web-1 unhealthy: 203.0.113.7 moved to web-2", "The same in words", "It was there already.",
            "http:8080/health: connection refused", "Near misses", "What to know before believing it", "folded",
        ]:
            self.assertIn(needed, text)
        hidden = self.browser.run("return [...document.querySelectorAll('.tools button, .panel')].every((one) => getComputedStyle(one).display === 'none')")
        self.assertTrue(hidden)
        if PICTURES:
            self.browser.pdf(PICTURES / "day.pdf")
        self.open("simulated")
        self.browser.run("window.dispatchEvent(new Event('beforeprint'))")
        self.browser.paper()
        self.assertIn("never moved", self.browser.run("return document.body.innerText"))

    def test_the_trade_off_is_told_at_focus_and_in_a_table(self):
        self.open("simulated")
        self.focus("#tradeoff .current")
        told = self.browser.run("const p = document.querySelector('#tradeoff .panel'); return p.hidden ? null : p.innerText")
        self.assertRegex(told, r"fall=3 interval=1s: outage .+ needless moves a day")
        self.browser.run("document.querySelector('#tradeoff').scrollIntoView()")
        self.keep("tradeoff")
        rows = self.browser.run("return document.querySelectorAll('#tradeoff tbody tr').length")
        self.assertEqual(rows, 21)

    def test_nothing_from_outside_is_taken_for_markup(self):
        self.open("hostile")
        self.assertNotEqual(self.browser.run("return document.title"), "owned")
        found = self.browser.run("return [document.scripts.length, document.images.length, document.querySelectorAll('style').length]")
        self.assertEqual(found, [1, 0, 1])
        self.assertIn("<script>document.title='owned'</script>", self.browser.run("return document.querySelector('h1').textContent"))
        # Each reason can be read, and stays text in the panel as well.
        for selector in [".held .s", ".decisions .m", ".verdicts .s", ".evidence .m"]:
            self.focus(selector)
            self.assertIn("<img src=x", self.browser.run(PANEL))
        self.assertEqual(self.browser.run("return document.images.length"), 0)

    def test_nothing_is_fetched(self):
        for name in ["day", "hostile", "simulated"]:
            self.open(name)
            self.assertEqual(self.browser.run("return performance.getEntriesByType('resource').map((one) => one.name)"), [])

    def test_without_its_script_the_page_tells_all_the_same(self):
        self.browser.devtools("Emulation.setScriptExecutionDisabled", value=True)
        try:
            self.open("day")
            self.keep("no-script")
            tree = self.browser.devtools("Accessibility.getFullAXTree")["nodes"]
        finally:
            self.browser.devtools("Emulation.setScriptExecutionDisabled", value=False)
        names = [(node.get("role", {}).get("value"), node.get("name", {}).get("value", "")) for node in tree]
        buttons = [name for role, name in names if role == "button"]
        self.assertGreater(len(buttons), 100)
        self.assertTrue(any(name.startswith("no service") and "did not serve" in name for name in buttons), buttons[:20])

    def test_a_page_of_nothing_opens(self):
        self.open("empty")
        self.assertIn("eipwatch", self.browser.run("return document.title"))


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__)
    PAGES = pathlib.Path(sys.argv[1]).resolve()
    PICTURES = pathlib.Path(sys.argv[2]) if len(sys.argv) == 3 else None
    if PICTURES:
        PICTURES.mkdir(parents=True, exist_ok=True)
    unittest.main(argv=sys.argv[:1])
