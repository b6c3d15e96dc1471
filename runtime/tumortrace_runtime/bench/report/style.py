"""The page's style sheet: Okabe and Ito's colours (2008), which every kind of colour vision tells apart."""

from __future__ import annotations

_HUES = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#888888")
_STAGES = {
    "decode": "#56b4e9",
    "preprocess": "#009e73",
    "infer": "#0072b2",
    "postprocess": "#e69f00",
    "encode": "#cc79a7",
}

_RULES = """
:root { --ground: #ffffff; --ink: #1a1a1a; --faint: #dddddd; --soft: #666666; --warn: #b34700; }
:root { color-scheme: light dark; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14171a; --ink: #e8e8e8; --faint: #353a40; --soft: #a0a0a0; --warn: #ff9f50; }
}
@media print {
  :root { --ground: #ffffff; --ink: #000000; --faint: #cccccc; --soft: #444444; --warn: #8a3600; }
  section { break-inside: avoid; }
  details > :not(summary) { display: block; }
}
body { background: var(--ground); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; margin: 0; }
main { max-width: 1080px; margin: 0 auto; padding: 24px; }
h1 { font-size: 26px; } h2 { font-size: 19px; margin-top: 36px; }
svg { width: 100%; height: auto; display: block; } td svg { width: 18px; }
text { fill: var(--ink); font: 13px system-ui, sans-serif; } text.label { fill: var(--soft); }
line.axis { stroke: var(--soft); } line.grid { stroke: var(--faint); } line.range { stroke: var(--soft); }
polyline { fill: none; } polyline.front { stroke: var(--soft); stroke-dasharray: 5 4; stroke-width: 1.5; }
polyline.trend { stroke-width: 1.5; }
.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: 13px; font-variant-numeric: tabular-nums; }
th, td { padding: 4px 7px; border-bottom: 1px solid var(--faint); text-align: right; white-space: nowrap; }
th:nth-child(-n+2), td:nth-child(-n+2) { text-align: left; }
th, td:nth-child(2) { white-space: normal; } th { vertical-align: bottom; }
.reason { color: var(--soft); font-size: 13px; } .warning { color: var(--warn); font-weight: 600; }
.legend { list-style: none; padding: 0; display: flex; gap: 18px; flex-wrap: wrap; }
.key { display: inline-block; width: 14px; height: 14px; margin-right: 6px; vertical-align: -2px; }
figure { margin: 18px 0; } figure img { max-width: 100%; } figcaption, footer { color: var(--soft); }
footer { margin-top: 40px; border-top: 1px solid var(--faint); padding-top: 12px; }
"""

STYLE = "".join(
    [
        _RULES,
        *(f".hue{number} {{ fill: {hue}; stroke: {hue}; }}" for number, hue in enumerate(_HUES)),
        "polyline.trend { fill: none; }",
        *(f"rect.stage-{stage} {{ fill: {hue}; }}" for stage, hue in _STAGES.items()),
        *(f".key-{stage} {{ background: {hue}; print-color-adjust: exact; }}" for stage, hue in _STAGES.items()),
    ]
)
