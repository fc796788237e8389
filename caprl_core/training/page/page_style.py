"""What the training page adds to the style sheet of report pages: panels of charts, and captions side by side."""

from typing import Final

STYLE: Final = """
:root { --series-3: #00735c; --series-4: #8a4a86; --new: #fff0b8; --new-line: #b07d00; --warn: #fff4e5;
  --warn-line: #b45309; }
@media (prefers-color-scheme: dark) { :root { --series-3: #5fd3ae; --series-4: #e29ac6; --new: #4a3d12;
  --new-line: #d9a932; --warn: #33240f; --warn-line: #e39a3b; } }
.banner { background: var(--warn); border: 1px solid var(--warn-line); border-left-width: 6px; border-radius: .5rem;
  padding: .7rem 1rem; margin: 1rem 0; } .banner p { margin: .15rem 0; max-width: 60rem; }
.panels { display: grid; gap: 2rem 2.5rem; grid-template-columns: minmax(0, 1fr); margin: 1rem 0; }
@media (min-width: 56rem) { .panels { grid-template-columns: repeat(2, minmax(0, 1fr)); } }
.panel h3 { margin-bottom: .15rem; }
.key { display: flex; flex-wrap: wrap; gap: .1rem 1.1rem; list-style: none; padding: 0; margin: 0 0 .3rem;
  font-size: .88rem; } .key svg { overflow: visible; vertical-align: -.1em; }
.key .newest { font-weight: 700; font-variant-numeric: tabular-nums; white-space: nowrap; }
.chart text { font-variant-numeric: tabular-nums; }
.band:hover { fill: var(--quiet); fill-opacity: .16; }
.watched { margin: 1.25rem 0 2.25rem; }
.watched h3 small { font-weight: 400; color: var(--quiet); margin-left: .5rem; }
.checkpoints { table-layout: fixed; } .checkpoints small { display: block; color: var(--quiet); font-weight: 400;
  font-size: .85rem; line-height: 1.35; }
.checkpoints thead th { color: inherit; padding-right: .9rem; }
.checkpoints td, .checkpoints th { padding-right: .9rem; }
.checkpoints .badge { font-size: .8rem; border: 1px solid currentColor; border-radius: 1rem; padding: 0 .45rem;
  line-height: 1.35; color: var(--good); }
.checkpoints .words { font-size: .95rem; line-height: 1.45; margin: 0; }
.checkpoints .words[tabindex] { max-height: 17rem; overflow-y: auto; padding-right: .4rem; }
.checkpoints thead td { width: 21%; } .always { max-width: none; font-size: .93rem; color: var(--quiet); }
.checkpoints .asked th { font-size: .93rem; overflow-wrap: anywhere; } .checkpoints td { overflow-wrap: anywhere; }
mark { background: var(--new); color: inherit; border-bottom: 2px solid var(--new-line); border-radius: .15rem;
  padding: 0 .1rem; margin: 0 -.1rem; }
.won { color: var(--good); } .lost { color: var(--bad); } .unasked { color: var(--quiet); }
.sign { font-weight: 700; }
.spoken { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
.own-head { display: none; }
.seen img { display: block; max-width: 100%; height: auto; max-height: 15rem; object-fit: contain;
  object-position: left top; border: 1px solid var(--line); background: var(--panel); }
.seen.small img { width: 10rem; image-rendering: pixelated; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .5rem; padding: .75rem 1rem;
  overflow: auto; max-height: 32rem; font-size: .85rem; line-height: 1.45; }
@media (max-width: 62rem) {
  .checkpoints, .checkpoints tbody, .checkpoints tr, .checkpoints th, .checkpoints td { display: block; }
  .checkpoints thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  .checkpoints .captions > * { border-bottom: 0; padding: .25rem 0; }
  .checkpoints .captions td { border-left: 3px solid var(--line); padding: 0 0 0 .75rem; margin: .6rem 0; }
  .checkpoints .asked { display: flex; flex-wrap: wrap; gap: .25rem .4rem; padding: .55rem 0;
    border-top: 1px solid var(--line); }
  .checkpoints thead td { width: 21%; } .always { max-width: none; font-size: .93rem; color: var(--quiet); }
.checkpoints .asked th { flex: 1 0 100%; border: 0; padding: 0; }
  .checkpoints .asked td { border: 1px solid var(--line); border-radius: .4rem; padding: .05rem .5rem;
    font-size: .88rem; }
  .own-head { display: block; font-weight: 700; } .asked .own-head { display: inline; font-weight: 400;
    color: var(--quiet); margin-right: .15rem; } }
@media print { .watched { break-inside: auto; } .checkpoints .words[tabindex] { max-height: none; } }
"""
