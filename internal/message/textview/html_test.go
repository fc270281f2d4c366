package textview

import (
	"strings"
	"testing"
)

func TestHTMLIsReadAsItIsRendered(t *testing.T) {
	for _, tt := range []struct{ name, html, shown, hidden string }{
		{"a comment does not split a word", "vi<!--x-->agra", "viagra", "x"},
		{"nor does an inline element", "v<b>i</b>a<span>g</span>r<font color=red>a</font>", "viagra", ""},
		{"nor an unknown element", "vi<x-y>ag</x-y>ra", "viagra", ""},
		{"nor an end tag of nothing", "vi</xyz>agra", "viagra", ""},
		{"nor a soft hyphen, a zero-width space or a joiner", "v&shy;i&#8203;a\u200dg\u2060r\ufeffa", "viagra", ""},
		{"blocks, cells and line breaks do", "<p>one<p>two<div>three</div>four<br>five<table><tr><td>six<td>seven</table>", "one\ntwo\nthree\nfour\nfive\nsix seven", ""},
		{"entities are undone", "&lt;a&gt; &amp;&#118;&#x69;agra &euro;5&nbsp;now", "<a> &viagra €5 now", ""},
		{"white space collapses", "a  \n\t b", "a b", ""},
		{"but not where it is preformatted", "<pre>a\nb</pre>", "a\nb", ""},
		{"the text of a picture is read", `buy <img src=x alt="cheap pills"> now`, "buy cheap pills now", ""},
		{"a picture of one letter is a part of the word", `v<img alt=i>agra`, "viagra", ""},
		{"not displayed", `a<div style="display: none">b</div>c`, "ac", "b"},
		{"not visible, but for what is made visible inside", `a<div style="VISIBILITY:hidden">b<p style="visibility:visible">c</p></div>d`, "a\nc\nd", "b"},
		{"without size, but for what has one inside", `<td style="font-size:0">b<span style="font-size:14px">c</span></td>d`, "c d", "b"},
		{"an element that is not displayed does not split a word", `vi<div style="display:none">x</div>agra`, "viagra", "x"},
		{"of one pixel", `a<font style="font-size:1px">b</font>`, "a", "b"},
		{"fully transparent", `a<p style="opacity:0">b</p>`, "a", "b"},
		{"the hidden attribute", `a<p hidden>b</p>`, "a", "b"},
		{"far outside", `a<p style="position:absolute;left:-9999px">b</p><p style="text-indent:-9999px">c</p>`, "a", "b c"},
		{"clipped to nothing", `a<p style="max-height:0px; overflow:hidden">b</p>`, "a", "b"},
		{"white on white", `a<font color=white>b</font><span style="color:#fefefe">c</span>`, "a", "b c"},
		{"white on a colour", `<table bgcolor="#003366"><tr><td><font color="#ffffff">a</font></table>`, "a", ""},
		{"white on a picture", `<table background="x.png"><tr><td><font color="#ffffff">a</font></table>`, "a", ""},
		{"black on black", `<body bgcolor=black text=white>a<font color="#000">b</font>`, "a", "b"},
		{"white that is inherited", `<div style="color:white">b<p style="background:#000">c</p></div>`, "c", "b"},
		{"hidden by a style sheet", `<style>.x, p.y { display:none }</style><p class="x">b</p><p class=y>c</p><div class=y>d</div>`, "d", "b c"},
		{"a style for telephones hides nothing", `<style>@media (max-width:600px) { .x { display:none } }</style><p class="x">b</p>`, "b", ""},
		{"a hidden element ends where its parent ends", `<div><span style="display:none">b</div>c`, "c", "b"},
		{"the end of a word's element does not end it", `<span>a<div style="display:none">b</span>c</div>d`, "ad", "b c"},
		{"values of buttons are seen, hidden ones not", `<input type=submit value="Go"> <input type=hidden value="h"><input value=v>`, "Go v", "h"},
		{"what is for programs without scripts is seen", `<noscript><b>a</b></noscript>`, "a", ""},
		{"scripts and styles are no text", `a<script>var b = "c<d>";</script><style>e{}</style>f`, "af", ""},
		{"templates are no text", `a<template>b</template>`, "a", "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := first(t, viewHTML(t, tt.html))
			if got.Shown != tt.shown || got.Hidden != tt.hidden {
				t.Errorf("shown %q, hidden %q; want %q, %q", got.Shown, got.Hidden, tt.shown, tt.hidden)
			}
		})
	}
}

func TestTitleIsApart(t *testing.T) {
	got := first(t, viewHTML(t, "<html><head><title>My &amp; bank</title></head><body>text"))
	if got.Title != "My & bank" || got.Shown != "text" {
		t.Errorf("%+v", got)
	}
}

func TestMuchHiddenTextIsFound(t *testing.T) {
	v := viewHTML(t, "buy<div style='display:none'>"+strings.Repeat("words from a book ", 50)+"</div>")
	if symbols(v) != "hidden-text" {
		t.Errorf("%+v", v.Findings)
	}
	if v := viewHTML(t, "<div style='display:none'>See our offers</div>buy"); symbols(v) != "" {
		t.Errorf("a teaser: %+v", v.Findings)
	}
}
