"""The style sheet of report pages: light and dark, narrow and wide, screen and paper, without files from elsewhere."""

from typing import Final

# Series colours are Okabe and Ito's, which the common kinds of colour blindness tell apart; the heat steps are one blue
# hue from light to dark, so that lightness alone orders them. Contrast of text is 4.5 : 1 at least in both themes.
STYLE: Final = """
:root { color-scheme: light dark; --ground: #fff; --panel: #f5f6f8; --text: #1a1d21; --quiet: #555c66; --line: #d4d8de;
  --series-1: #0072b2; --series-2: #a84800; --ghost: #ccd3dc; --good: #00664a; --bad: #9c3a00; --link: #0058a3; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171b; --panel: #1e2329; --text: #e8eaed; --quiet: #a9b1bc;
  --line: #3b424c; --series-1: #56b4e9; --series-2: #e69f00; --ghost: #3d4753; --good: #5fd3ae; --bad: #ffa366;
  --link: #8cc8ff; } }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--ground); color: var(--text);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main, header, footer { max-width: 80rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; } footer { padding-bottom: 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 .5rem; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; line-height: 1.25; margin: 2.5rem 0 .5rem; padding-top: 1rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; line-height: 1.3; margin: 0 0 .5rem; overflow-wrap: anywhere; }
p { max-width: 46rem; margin: .5rem 0; overflow-wrap: anywhere; } .quiet { color: var(--quiet); }
a { color: var(--link); } :focus-visible { outline: 3px solid var(--series-1); outline-offset: 2px; }
.skip { position: absolute; left: -999rem; }
.skip:focus { left: 1rem; top: .5rem; background: var(--ground); padding: .5rem; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; list-style: none; padding: 0; margin: 1rem 0 0; }
.headline { display: flex; flex-wrap: wrap; gap: .75rem;
  margin: 1.25rem 0; }
.headline div { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem .9rem;
  flex: 1 1 9rem; display: flex; flex-direction: column; }
.headline dt { color: var(--quiet); font-size: .9rem; } .headline dd { margin: 0; }
.headline .value { font-size: 1.7rem; font-weight: 700; line-height: 1.25; font-variant-numeric: tabular-nums; }
.headline .note { color: var(--quiet); font-size: .85rem; line-height: 1.4; }
.beside { display: grid; grid-template-columns: minmax(0, 1fr); gap: 1rem 2.5rem; margin: 1rem 0; align-items: start; }
@media (min-width: 56rem) { .beside { grid-template-columns: minmax(0, 5fr) minmax(0, 6fr); }
  .beside.wide { grid-template-columns: minmax(0, 1fr); } .wide figure { max-width: 46rem; } }
figure { margin: 0; } figcaption { color: var(--quiet); font-size: .9rem; margin-top: .4rem; }
.chart { display: block; overflow: visible; font-size: 13px; font-family: inherit; }
.scroll { overflow-x: auto; margin: 0 0 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .93rem; }
caption { text-align: left; font-weight: 700; padding: 0 0 .35rem; }
th, td { text-align: left; vertical-align: top; padding: .3rem .6rem .3rem 0; border-bottom: 1px solid var(--line);
  overflow-wrap: break-word; }
thead th { color: var(--quiet); font-weight: 700; } tbody th { font-weight: inherit; }
th small { display: block; color: var(--quiet); font-size: .88rem; line-height: 1.4; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap;
  padding-right: 0; padding-left: .9rem; }
thead .number { white-space: normal; } .number + :not(.number) { padding-left: 1.5rem; }
dl.pairs { display: grid; grid-template-columns: minmax(0, 1fr); gap: 0 1.5rem; font-size: .93rem; }
dl.pairs dt { color: var(--quiet); } dl.pairs dd { margin: 0 0 .5rem; overflow-wrap: anywhere; }
@media (min-width: 40rem) { dl.pairs { grid-template-columns: minmax(8rem, 16rem) minmax(0, 1fr); gap: .35rem 1.5rem; }
  dl.pairs dd { margin: 0; } }
.cards { display: grid; gap: 1rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 75rem) { .cards { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
.card { border: 1px solid var(--line); border-left: 6px solid var(--bad); border-radius: .5rem; padding: .9rem 1rem;
  overflow: hidden; }
.card.good { border-left-color: var(--good); }
.badge { display: inline-block; font-weight: 700; font-size: .9rem; color: var(--bad); }
.good .badge { color: var(--good); }
.card .split { display: grid; gap: .75rem 1rem; grid-template-columns: minmax(0, 1fr); }
@media (min-width: 36rem) { .card .split { grid-template-columns: minmax(0, 12rem) minmax(0, 1fr); } }
.card img { display: block; max-width: 100%; height: auto; max-height: 20rem; background: var(--panel);
  border: 1px solid var(--line); }
.placeholder { border: 1px dashed var(--quiet); padding: 1.5rem .75rem; color: var(--quiet); font-size: .9rem;
  text-align: center; overflow-wrap: anywhere; }
.words { white-space: pre-wrap; overflow-wrap: anywhere; } p.words { margin-top: 0; font-size: 1.08rem; }
.mark { white-space: nowrap; color: var(--good); }
.right td, .right th { font-weight: 700; }
details { margin-top: .5rem; font-size: .93rem; } details .scroll { margin-top: .5rem; }
summary { cursor: pointer; color: var(--link); }
@media (max-width: 30rem) { table { font-size: .86rem; } .number { padding-left: .5rem; } }
@media print { body { font-size: 10.5pt; } nav, .skip { display: none; }
  .card, .beside, .headline div { break-inside: avoid; }
  h2, h3 { break-after: avoid; } main, header, footer { max-width: none; } a { color: inherit; }
  * { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
"""
