"""Values that are easily mishandled: numbers, texts, and YAML as it stands in a file."""

NUMBERS = [0, 1, -1, 2, 3, 7, 8, 12, 24, 1e-3, 0.5, 1.0, 1.5, -0.5, 2**31, 2**63, -(2**70), 1e30, 1e308, 1e-320]
NUMBERS += [float("nan"), float("inf"), -float("inf"), 10**30, True]
TEXTS = ["", " ", "~", "null", "a", "logits", "hidden", "uniform", "a.b", "..", ".", "/", "/dev/null"]
TEXTS += ["~nobody/x", "é", "日本", "\u202e", "\x00", "\n", "\t", "\x7f", "\x85", "'", '"', "#", "%", "{}"]
TEXTS += ["\ud7ff", "\ufeff", "50%", "nan%", "-10%", "1e9%", "٣%", "²", "10 steps", "0 steps", "2 epochs"]
TEXTS += ["1.2.3%"]
TEXTS += ["x" * 5000, "9" * 400 + "%"]
CHARACTERS = ["\x00", "\x01", "\x1b", "\x7f", "\x85", "\xa0", "\u2028", "\ufeff", "\ufffe", "😀", "\t", "\r", "\n"]
CHARACTERS += [":", "{", "}", "[", "]", "&", "*", "!", "|", "%", "@", "`", "#", ",", "'", '"', "---", "...", "- "]
CHARACTERS += ["? ", ": "]
RAW = r"""
!!bool maybe
!!bool ''
!!int x
!!int ''
!!int 0x
!!int '_'
!!int [1]
!!float x
!!float ''
!!timestamp x
!!timestamp 2001-99-99
!!timestamp [a]
!!binary '*'
!!binary é
!!set {a, b}
!!omap [a]
!!omap [{a: 1}]
!!pairs [a]
!!python/object:os.system x
!own x
!!null x
!!str [a]
!!map x
!!seq {a: 1}
!!merge x
!!value x
&a [*a]
&a {b: *a}
*nowhere
&a x
{<<: x}
{<<: {kind: Linear, to: 1}}
{<<: [{a: 1}, {b: 2}]}
{<<: [1]}
&m {<<: *m}
{=: x}
{? a}
{[a]: x}
{{a: 1}: x}
{1: x, 1.0: y}
{true: x, 1: y}
{null: x}
{.nan: x, .nan: y}
{2001-01-01: x}
{'': x}
{'a.b': x}
{.: x}
{a b: {kind: Labels}}
{'a.b': {kind: Labels}}
{'': {kind: Labels}}
0x1F
0o17
1:30
1_000
0b2
.5e1
+.inf
2001-01-01
2001-13-01T25:00:00Z
- - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - - 
'open
|
>-
@x
`x`
%x
? x
!<x> y
!!
! x
&
*
----------------------------------------
"\0"
"\uD800"
"\x"
{a: &x [1,2], b: *x}
[1, [2, [3]]]
""".strip().split("\n")
RAW += ["[" * 3000 + "]" * 3000, "[" * 300, "{a: " * 1500 + "1" + "}" * 1500, "- " * 50, "9" * 5000, "1e" + "9" * 400]
