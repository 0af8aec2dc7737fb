"""The style sheet of the report: system fonts, one accent for better and one for worse, light, dark and print."""

CSS = """
:root { color-scheme: light dark; --paper: #fdfdfc; --ink: #1d2126; --soft: #5c6570; --rule: #dfe2e6; --tint: #f3f4f5;
  --up: #1f6f54; --down: #b4472b; --flat: #6b7480; --blue: #2d5fa8; }
@media (prefers-color-scheme: dark) { :root { --paper: #15181c; --ink: #e6e8ea; --soft: #9aa3ad; --rule: #2e343b;
  --tint: #1d2126; --up: #5cbf99; --down: #e5805f; --flat: #8b949e; --blue: #7aa7e8; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
header, main, footer, nav { max-width: 800px; margin: 0 auto; padding: 0 24px; }
header { padding-top: 56px; }
.kind { margin: 0 0 10px; color: var(--soft); font-size: 13px; letter-spacing: .02em; }
h1 { margin: 0 0 16px; font-size: 27px; line-height: 1.3; font-weight: 600; letter-spacing: -.01em; text-wrap: pretty;
  padding-left: 18px; border-left: 4px solid var(--flat); }
h1.up { border-color: var(--up); } h1.down { border-color: var(--down); }
h2 { margin: 52px 0 12px; font-size: 18px; font-weight: 600; }
h3 { margin: 26px 0 8px; font-size: 15px; font-weight: 600; }
p { margin: 0 0 12px; max-width: 68ch; text-wrap: pretty; }
.soft, caption, footer, figcaption { color: var(--soft); }
nav ul { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 22px 0 0; padding: 12px 0; list-style: none;
  border-block: 1px solid var(--rule); font-size: 13px; }
a { color: var(--blue); text-decoration: none; } a:hover { text-decoration: underline; }
.scroll { position: relative; overflow-x: auto; margin: 0 0 20px; }
table { border-collapse: collapse; width: 100%; font-size: 14px; }
caption { text-align: left; padding: 0 0 8px; font-size: 13px; }
th, td { padding: 7px 14px 7px 0; text-align: left; vertical-align: top; border-bottom: 1px solid var(--rule);
  overflow-wrap: anywhere; }
th:last-child, td:last-child { padding-right: 0; }
tbody th, td { min-width: 7.6em; } tbody th.long, td.long { min-width: 13em; }
td.number, td:has(> svg) { min-width: 0; }
thead th { color: var(--soft); font-weight: 500; font-size: 13px; vertical-align: bottom; overflow-wrap: normal; }
thead th.number { white-space: normal; }
tbody th { font-weight: 500; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
tbody th:first-child:nth-last-child(2) { width: 40%; }
.plain li:has(.rank) { display: flex; }
.rank { flex: none; min-width: 5.2em; padding-right: 10px; font-variant-numeric: tabular-nums; }
.plain li + li { margin-top: 4px; }
.main { font-weight: 650; }
.better { color: var(--up); } .worse { color: var(--down); }
code { font: 12.5px/1.5 ui-monospace, "SF Mono", Menlo, Consolas, "Liberation Mono", monospace; }
ul.plain { margin: 0; padding: 0; list-style: none; }
.share { display: block; height: 5px; margin-top: 6px; min-width: 2px; background: var(--flat); border-radius: 2px; }
figure { margin: 0 0 24px; } figure .scroll { margin: 0; } figcaption { font-size: 13px; margin-top: 6px; }
.chart { width: 100%; min-width: 560px; height: auto; display: block; font-size: 12px; overflow: visible; }
.chart text { fill: var(--soft); } .grid line, .zero { stroke: var(--rule); }
.zero { stroke: var(--soft); stroke-width: 1; }
rect.up, .dot.up { fill: var(--up); } rect.down, .dot.down { fill: var(--down); }
rect.flat, .dot.flat { fill: var(--flat); }
rect:hover { opacity: .6; }
.whisker { stroke-width: 2; stroke: var(--flat); } .whisker.up { stroke: var(--up); }
.whisker.down { stroke: var(--down); }
.line polyline { fill: none; stroke-width: 2; stroke-linejoin: round; }
.line0 polyline { stroke: var(--flat); } .line0 text, .line0 circle { fill: var(--flat); }
.line2 polyline, .line3 polyline { stroke: var(--blue); stroke-width: 1; stroke-dasharray: 4 4; }
.line2 circle, .line3 circle { fill: var(--blue); }
.line1 polyline { stroke: var(--blue); } .line1 text, .line1 circle { fill: var(--blue); }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.shape polygon { fill-opacity: .22; stroke-width: 1.5; }
.shape0 polygon { fill: var(--blue); stroke: var(--blue); } .shape0 text { fill: var(--blue); }
.shape1 polygon { fill: var(--flat); stroke: var(--flat); } .shape1 text { fill: var(--flat); }
.verdict { display: inline-block; margin: 0 0 14px; padding: 3px 12px; border-radius: 4px; font-weight: 650;
  color: var(--paper); background: var(--flat); }
.verdict.promote { background: var(--up); } .verdict.reject { background: var(--down); }
.verdict + .meaning { display: inline-block; margin: 0 0 14px 12px; }
header ul.plain { margin: 0 0 16px; } header ul.plain li { color: var(--soft); }
details { border-bottom: 1px solid var(--rule); padding: 8px 0; } summary { cursor: pointer; font-weight: 500; }
details .scroll { margin: 8px 0 0; }
footer { margin-top: 56px; padding-top: 16px; padding-bottom: 56px; font-size: 13px; }
:focus-visible { outline: 2px solid var(--blue); outline-offset: 2px; }
@media (max-width: 600px) { header, main, footer, nav { padding: 0 16px; } header { padding-top: 28px; }
  h1 { font-size: 21px; padding-left: 12px; } table { font-size: 13px; } th, td { padding-right: 9px; }
  td { min-width: 4em; }
  tbody th { min-width: 6em; } tbody th.long, td.long { min-width: 9em; } .plain li:has(.rank) { display: block; }
  .verdict + .meaning { display: block; margin-left: 0; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --soft: #444; --rule: #bbb; --tint: #fff;
  --up: #1f6f54; --down: #b4472b; --flat: #555; --blue: #2d5fa8; }
  body { font-size: 10.5pt; } header { padding-top: 0; } nav { display: none; }
  header, main, footer { max-width: none; padding-inline: 0; }
  tr, figure, svg { break-inside: avoid; } h2, h3, caption { break-after: avoid; } h2 { margin-top: 28px; }
  details::details-content { content-visibility: visible; display: block; }
  details:is(.settings, .bars)::details-content { display: none; } .scroll { overflow: visible; }
  .chart { min-width: 0; } }
"""

SERVE_CSS = """
header, main { max-width: 1180px; }
form[role=search] { display: flex; flex-wrap: wrap; gap: 8px; align-items: center; margin-bottom: 18px; }
form[role=search] label { flex-basis: 100%; color: var(--soft); font-size: 13px; }
input[type=search] { flex: 1; min-width: 16em; padding: 8px 12px; font: inherit; color: var(--ink);
  background: var(--tint); border: 1px solid var(--rule); border-radius: 6px; }
button { font: inherit; font-size: 13px; padding: 6px 14px; color: var(--ink); background: var(--tint);
  border: 1px solid var(--rule); border-radius: 6px; cursor: pointer; }
button:hover { border-color: var(--blue); }
.sides { display: grid; grid-template-columns: 1fr 1fr; gap: 36px; padding-bottom: 48px; }
@media (max-width: 760px) { .sides { grid-template-columns: 1fr; } }
.sides h2 { margin-top: 18px; } .sides ol { margin: 0; padding-left: 1.6em; }
.sides li { margin: 0 0 18px; padding-left: 4px; overflow-wrap: anywhere; }
.sides h3 { margin: 0; } .sides p { margin: 2px 0 4px; font-size: 14px; } .sides p.soft { font-size: 12.5px; }
.places { display: flex; gap: 16px; padding: 0; margin: 0 0 8px; border: 0; font-size: 13px; }
.agenda { margin: 0 0 22px; padding: 10px 14px; background: var(--tint); border-radius: 6px; font-size: 14px; }
.agenda p { margin: 0 0 6px; } .agenda ul { margin: 0; padding-left: 1.3em; } .agenda li { overflow-wrap: anywhere; }
progress { display: block; width: 100%; max-width: 26em; height: 8px; margin-top: 6px; accent-color: var(--blue); }
.judge { display: flex; gap: 6px; } .judge button { padding: 2px 10px; font-size: 12.5px; }
.judge button[aria-pressed=true] { color: var(--paper); background: var(--blue); border-color: var(--blue); }
"""
