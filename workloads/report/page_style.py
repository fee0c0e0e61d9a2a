"""How does a report look? On paper, on a wide screen and on a phone, by day and by night."""

from __future__ import annotations

NARROW_PX = 640  # below it figures are drawn for a phone

CSS = f"""
:root{{color-scheme:light dark;--ink:#222;--quiet:#666;--line:#ddd;--tint:#f6f7f9;--mark:#d55e00;
--page:#fff;--best:#fff4ec;--care:#7a3b00}}
body{{font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;
color:var(--ink);background:var(--page);max-width:1080px;margin:2rem auto;padding:0 1.2rem}}
h1{{font-size:1.7rem;line-height:1.25;margin:0 0 .3rem}}
h2{{font-size:1.25rem;margin:2.4rem 0 .6rem;padding-top:.6rem;border-top:1px solid var(--line)}}
.sub{{color:var(--quiet);margin:0 0 1.4rem;overflow-wrap:anywhere}}
ul.findings{{background:var(--tint);border-left:4px solid var(--mark);margin:0;
padding:.9rem 1.2rem .9rem 2.2rem}}
ul.findings li{{margin:.25rem 0}}
ul.care{{color:var(--care);padding-left:1.2rem}}
figure{{margin:1.2rem 0}}
figure img{{width:100%;height:auto;box-sizing:border-box;padding:.7rem;background:#fff;
border:1px solid var(--line);border-radius:4px}}
figcaption{{color:var(--quiet);font-size:.92rem;margin-top:.35rem;max-width:62rem}}
.scroll{{overflow-x:auto}}
table{{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums;width:100%}}
th,td{{padding:.3rem .6rem;text-align:right;white-space:nowrap}}
th{{border-bottom:2px solid var(--ink);vertical-align:bottom;white-space:normal}}
td.left,th.left{{text-align:left}}
tr>:first-child{{position:sticky;left:0;background:var(--page)}}
tr.load td{{border-top:1px solid #999;padding-top:.7rem;font-style:italic;color:var(--quiet)}}
tr.best td{{font-weight:700;background:var(--best)}}
dl{{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;font-size:.95rem}}
dt{{font-weight:600}}dd{{margin:0}}
code{{background:var(--tint);padding:.1rem .3rem;border-radius:3px;overflow-wrap:anywhere}}
details{{margin:.8rem 0}}summary{{cursor:pointer}}
@media (max-width:{NARROW_PX}px){{
body{{margin:1rem auto;padding:0 .8rem}}
h1{{font-size:1.35rem}}
figure img{{padding:.2rem}}
th,td{{padding:.3rem .4rem}}
dl{{grid-template-columns:1fr}}dd{{margin-bottom:.4rem}}
}}
@media (prefers-color-scheme:dark){{
:root{{--ink:#e6e6e6;--quiet:#a8a8a8;--line:#3a3a3a;--tint:#22252a;--page:#16181b;--best:#3a2a1c;
--care:#f0b070}}
figure img{{filter:invert(.91) hue-rotate(180deg)}}
}}
@media print{{body{{max-width:none;margin:0}}figure,tr{{break-inside:avoid}}}}
"""
