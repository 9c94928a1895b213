"""Looks at the status page as people do: on a desk, on a phone, with the keyboard alone, and with the rules of axe-core.

browser.py LIVE MANY FOLDER: the page of a living gateway, one of a snapshot with 10,000 pairs, and where pictures go. Ends with
a line of JSON: what is wrong, and what was seen.
"""

import json
import pathlib
import sys
import time

import axe_playwright_python
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.chrome.service import Service

live, many, folder = sys.argv[1:]
axe = (pathlib.Path(axe_playwright_python.__file__).parent / "axe.min.js").read_text()
sizes = {"desk": (1280, 1000), "phone": (390, 844)}
wrong, seen = [], []


def browser(size):
    options = webdriver.ChromeOptions()
    options.binary_location = "/usr/bin/chromium"
    for word in ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-proxy-server"]:
        options.add_argument(word)
    # A window cannot be as narrow as a phone; what the page sees of it can.
    width, height = sizes[size]
    options.add_experimental_option("mobileEmulation", {"deviceMetrics": {"width": width, "height": height, "pixelRatio": 1.0, "touch": False}})
    driver = webdriver.Chrome(options=options, service=Service("/usr/bin/chromedriver"))
    # The rules of axe-core take long on a busy machine; 30 s are the default.
    driver.set_script_timeout(120)
    driver.set_page_load_timeout(60)
    return driver


def check(what, holds, found=""):
    seen.append(what)
    if not holds:
        wrong.append(f"{what}: {found}")


def look(driver, size, name, url):
    driver.get(url)
    run = lambda script: driver.execute_script(script)
    # Nothing but the tables themselves goes over the edge of the screen.
    wide = run("return [document.documentElement.scrollWidth, innerWidth]")
    check(f"{name} on a {size} is no wider than the screen", wide[0] <= wide[1], wide)
    small = run("return [...document.querySelectorAll('body *')].filter(e => e.childNodes.length && [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()) && parseFloat(getComputedStyle(e).fontSize) < 12).map(e => e.outerHTML.slice(0, 80))")
    check(f"{name} on a {size} has no letters too small to read", not small, small[:3])
    loaded = run("return performance.getEntriesByType('resource').map(e => e.name).filter(n => !n.endsWith('/favicon.ico'))")
    check(f"{name} on a {size} loads nothing", not loaded, loaded)
    for scheme in ["light", "dark"]:
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        driver.execute_script(axe)
        found = driver.execute_async_script("const done = arguments[0]; axe.run(document).then(r => done(r.violations.map(v => [v.id, v.impact, v.nodes.length, v.nodes[0].html.slice(0, 120)])))")
        check(f"{name} on a {size}, {scheme}: axe-core finds nothing", not found, found)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": "light"}]})


def keyboard(driver, size):
    """Every link and every table by Tab, each with a mark around it; tables scroll by the arrows."""
    driver.get(many)
    reachable = len(driver.find_elements(By.CSS_SELECTOR, "a[href], [tabindex='0']"))
    visited, first = [], None
    for step in range(reachable + 5):
        webdriver.ActionChains(driver).send_keys(Keys.TAB).perform()
        at = driver.execute_script(
            "const e = document.activeElement, s = getComputedStyle(e), r = e.getBoundingClientRect();"
            "return [e.outerHTML.slice(0, 60), s.outlineStyle, r.width > 0 && r.left >= 0, [...document.querySelectorAll('*')].indexOf(e)]")
        if step == 0:
            first = at
        if at[3] in [v[3] for v in visited]:
            break
        visited.append(at)
    check(f"on a {size} the first stop is the way past the navigation", first and "skip" in first[0] and first[2], first)
    check(f"on a {size} the keyboard reaches all there is", len(visited) >= reachable, [len(visited), reachable])
    check(f"on a {size} each stop is marked", all(v[1] != "none" for v in visited if not v[0].startswith("<body")), visited)
    driver.get(many)
    region = driver.find_element(By.CSS_SELECTOR, "#federation ~ .wide, section .wide")
    for candidate in driver.find_elements(By.CSS_SELECTOR, ".wide"):
        if driver.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth + 20", candidate):
            region = candidate
            break
    driver.execute_script("arguments[0].focus()", region)
    for _ in range(6):
        webdriver.ActionChains(driver).send_keys(Keys.ARROW_RIGHT).perform()
    # It moves with the next picture, and a busy machine draws few of them.
    left, end = 0, time.monotonic() + 30
    while left == 0 and time.monotonic() < end:
        left = driver.execute_script("return arguments[0].scrollLeft", region)
        time.sleep(0.05)
    # On a phone nothing is wider than the screen.
    wide = driver.execute_script("return arguments[0].scrollWidth > arguments[0].clientWidth + 20", region)
    check(f"on a {size} what is wide scrolls by the arrows", left > 0 if wide else size == "phone", [left, wide])
    link = driver.find_element(By.CSS_SELECTOR, "a[rel=next]")
    driver.execute_script("arguments[0].focus()", link)
    webdriver.ActionChains(driver).send_keys(Keys.ENTER).perform()
    for _ in range(50):
        if "page=2" in driver.current_url:
            break
    text = driver.find_element(By.TAG_NAME, "main").text
    check(f"on a {size} the next page of 100 is one key away", "Page 2 of 100" in text and "page=2" in driver.current_url, driver.current_url)


for size in sizes:
    driver = browser(size)
    try:
        for name, url in [("the living page", live), ("the long page", many)]:
            look(driver, size, name, url)
        driver.get(live)
        driver.save_screenshot(f"{folder}/status-{size}.png")
        keyboard(driver, size)
    finally:
        driver.quit()
print(json.dumps({"wrong": wrong, "seen": seen}))
