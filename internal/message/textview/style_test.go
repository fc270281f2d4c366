package textview

import (
	"strings"
	"testing"
)

func TestStylesThatHide(t *testing.T) {
	for _, tt := range []struct {
		css    string
		hidden bool
	}{
		{"display:none", true},
		{"DISPLAY : NONE !important", true},
		{"display:/* x */none", true},
		{"display:block", false},
		{"visibility:collapse", true},
		{"opacity:0.01", true},
		{"opacity:0.9", false},
		{"font-size:0", true},
		{"font-size:1px", true},
		{"font-size:0.05em", true},
		{"font-size:1%", true},
		{"font-size:100%", false},
		{"font-size:medium", false},
		{"font-size:2mm", false},
		{"font:bold 0px/1 Arial", true},
		{"font:12px/1.5 Arial", false},
		{"color:#fff", true},
		{"color:#FFFFFF", true},
		{"color:#fffffe", true},
		{"color:rgb(255, 255, 255)", true},
		{"color:rgb(100%,100%,100%)", true},
		{"color:rgba(0,0,0,0)", true},
		{"color:#ffffff00", true},
		{"color:transparent", true},
		{"color:white;background:#000", false},
		{"color:white;background:url(a.png) no-repeat", false},
		{"color:white;background-image:linear-gradient(red,blue)", false},
		{"color:white;background-image:none", true},
		{"color:white;background:none repeat 0 0 rgb(0,0,0)", false},
		{"color:white;background:rgb(0, 0, 0)", false},
		{"color:white;background:var(--x)", false},
		{"color:black;background:black", true},
		{"color:#123456;background-color:#123457", true},
		{"color:grey", false},
		{"color:#12", false},
		{"color:rgb(1,2)", false},
		{"color:rgb(a,b,c)", false},
		{"color:inherit", false},
		{"position:absolute;left:-5000px", true},
		{"position:absolute;top:-40em", true},
		{"left:-5000px", false},
		{"position:absolute;left:10px", false},
		{"text-indent:-999em", true},
		{"margin-left:-9999px", true},
		{"height:0;overflow:hidden", true},
		{"height:0", false},
		{"max-width:1px;overflow-x:hidden", true},
		{"position:absolute;clip:rect(0 0 0 0)", true},
		{"clip:rect(1px,1px,1px,1px);position:fixed", true},
		{"position:absolute;clip:rect(0 90px 90px 0)", false},
		{"position:absolute;clip:auto", false},
		{"mso-hide:all", false},
		{"", false},
		{";;:x;y:;z", false},
	} {
		v := viewHTML(t, `<p style="`+tt.css+`">text</p>`)
		got := first(t, v)
		if (got.Shown == "") != tt.hidden || got.Shown+got.Hidden != "text" {
			t.Errorf("%s: shown %q, hidden %q", tt.css, got.Shown, got.Hidden)
		}
	}
}

func TestStyleSheets(t *testing.T) {
	for _, tt := range []struct{ name, html, shown string }{
		{"by id", `<style>#x, td#y {display:none}</style><p id=X>a</p><p>b</p>`, "b"},
		{"by element", `<style>b{font-size:0}</style>a<b>b</b>`, "a"},
		{"in a comment of old programs", "<style><!-- .x{display:none} --></style>a<b class='y x'>b</b>", "a"},
		{"with a comment inside", "<style>/* .x{} */ .x/**/{display:none}</style>a<b class=x>b</b>", "a"},
		{"an attribute comes after them", `<style>.x{font-size:0}</style><b class=x style="font-size:12px">b</b>`, "b"},
		{"a background that depends on the place makes it unknown", `<style>.hero td{background:#036} td{color:#fff}</style><div class=hero><table><td>a</td></table></div>`, "a"},
		{"a class gives the background", `<style>.btn{background-color:#036}</style><a class=btn style="color:#fff">a</a>`, "a"},
		{"rules of other kinds", `<style>@import "x"; .y{} @font-face{src:url(x)} @media print{.x{display:none} .z{}} .w{display:none}</style><b class=x>a</b><b class=w>b</b>`, "a"},
		{"rules without end", `<style>.x{display:none</style><b class=x>a</b>b`, "b"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := first(t, viewHTML(t, tt.html)); got.Shown != tt.shown {
				t.Errorf("shown %q, hidden %q", got.Shown, got.Hidden)
			}
		})
	}
}

func TestWhatIsReadAsText(t *testing.T) {
	part := func(header, body string) string {
		return "Content-Type: multipart/mixed; boundary=b\n\n--b\nContent-Type: text/plain\n\nhi\n--b\n" + header + "\n\n" + body + "\n--b--\n"
	}
	for _, tt := range []struct{ name, msg, kinds, shown string }{
		{"HTML that is attached as something else", part("Content-Type: application/octet-stream; name=a.bin", "<!DOCTYPE html><html><body>vi<b>ag</b>ra</body></html>"), "text/plain text/html", "viagra"},
		{"HTML by its name", part("Content-Type: application/octet-stream; name=\"form.HTM\"", "Dear customer, vi<b>ag</b>ra"), "text/plain text/html", "viagra"},
		{"a drawing", part("Content-Type: image/svg+xml; name=a.svg", `<svg xmlns="http://www.w3.org/2000/svg"><text>viagra</text></svg>`), "text/plain text/html", "viagra"},
		{"HTML that is called plain is read both ways", part("Content-Type: text/plain", "<!DOCTYPE html><html><body>vi<b>ag</b>ra</body></html>"), "text/plain text/plain text/html", "viagra"},
		{"a calendar", part("Content-Type: text/calendar", "SUMMARY:viagra"), "text/plain text/plain", "viagra"},
		{"a program that is called text", part("Content-Type: text/plain\nContent-Transfer-Encoding: base64", "TVqQAAMAAAAEAAAA//8AALgAAAAAAAAAQAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"), "text/plain", "hi"},
		{"a picture", part("Content-Type: image/png\nContent-Transfer-Encoding: base64", "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJ"), "text/plain", "hi"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v := view(t, tt.msg)
			var kinds []string
			for _, text := range v.Texts {
				kinds = append(kinds, text.Type)
			}
			if got := strings.Join(kinds, " "); got != tt.kinds {
				t.Fatalf("got %s", got)
			}
			last := v.Texts[len(v.Texts)-1]
			if !strings.Contains(last.Shown, tt.shown) || !v.Texts[0].Main {
				t.Errorf("%+v", v.Texts)
			}
		})
	}
}
