// Brings the parts of a page up to date when the program says that something has changed.
"use strict";
(() => {
  const pulse = document.getElementById("pulse");
  const say = (state) => { pulse.dataset.state = state; pulse.title = state === "live" ? "Live" : "Not connected"; };
  let busy = false, again = false;

  const parts = (of) => [...of.querySelectorAll("[data-live]")].map((part) => part.id).join();

  function swap(next) {
    // A page that has other parts now, as of a run that has just begun, is taken over as a whole.
    if (parts(next) !== parts(document)) {
      document.querySelector("main").replaceChildren(...next.querySelector("main").childNodes);
      return;
    }
    for (const old of document.querySelectorAll("[data-live]")) {
      const fresh = next.getElementById(old.id);
      if (!fresh || fresh.outerHTML === old.outerHTML) continue;
      const focus = old.contains(document.activeElement) ? document.activeElement : null;
      // What somebody is typing stays.
      if (focus && focus.matches("input, select, textarea")) continue;
      const open = [...old.querySelectorAll("details[open][id]")].map((part) => part.id);
      const scroll = [...old.querySelectorAll(".scroll")].map((part) => [part.scrollLeft, part.scrollTop]);
      old.className = fresh.className;
      old.replaceChildren(...fresh.childNodes);
      for (const id of open) document.getElementById(id)?.setAttribute("open", "");
      old.querySelectorAll(".scroll").forEach((part, at) => { if (scroll[at]) [part.scrollLeft, part.scrollTop] = scroll[at]; });
      if (focus && focus.id) document.getElementById(focus.id)?.focus({ preventScroll: true });
      else if (focus && focus.href) [...old.querySelectorAll("a")].find((link) => link.href === focus.href)?.focus({ preventScroll: true });
    }
    for (const [old, fresh] of zip(document.querySelectorAll("nav a"), next.querySelectorAll("nav a"))) {
      if (old.innerHTML !== fresh.innerHTML) old.replaceChildren(...fresh.childNodes);
    }
  }

  function* zip(a, b) { const n = Math.min(a.length, b.length); for (let i = 0; i < n; i++) yield [a[i], b[i]]; }

  async function refresh() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      const answer = await fetch(location.href, { credentials: "omit", cache: "no-store" });
      if (answer.ok || answer.status === 404) swap(new DOMParser().parseFromString(await answer.text(), "text/html"));
    } catch { say("away"); } finally {
      busy = false;
      if (again) { again = false; setTimeout(refresh, 100); }
    }
  }

  // A page on which somebody confirms something stays as it is.
  if (document.querySelector("[data-still]")) { pulse.hidden = true; return; }
  const source = new EventSource(document.body.dataset.live);
  source.addEventListener("open", () => say("live"));
  source.addEventListener("change", refresh);
  source.addEventListener("error", () => say("away"));
  addEventListener("pagehide", () => source.close());
  addEventListener("pageshow", (event) => { if (event.persisted) location.reload(); });
  // Times such as "3 min ago" grow old without a change.
  setInterval(() => { if (!document.hidden) refresh(); }, 30000);
})();
