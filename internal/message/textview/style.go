package textview

import (
	"strconv"
	"strings"
)

// colour is red, green and blue; anyColour is one that is not known, which is
// like no other: a picture, a name that nobody knows.
type colour int32

const anyColour colour = -1

// style is what declarations say about whether a text can be seen.
type style struct {
	// gone: not displayed, fully transparent, or outside of the page; nothing
	// inside can undo it.
	gone bool
	// The rest is inherited and can be undone inside: +1 hidden, -1 shown, 0 not
	// said.
	invisible, tiny int8
	fg, bg          colour
	hasFg, hasBg    bool
}

// merge puts the declarations of o over those of s.
func (s style) merge(o style) style {
	s.gone = s.gone || o.gone
	if o.invisible != 0 {
		s.invisible = o.invisible
	}
	if o.tiny != 0 {
		s.tiny = o.tiny
	}
	if o.hasFg {
		s.fg, s.hasFg = o.fg, true
	}
	if o.hasBg {
		s.bg, s.hasBg = o.bg, true
	}
	return s
}

// hidden reports that text in this style is not seen.
func (s style) hidden() bool {
	return s.gone || s.invisible > 0 || s.tiny > 0 || s.fg != anyColour && s.bg != anyColour && close(s.fg, s.bg)
}

// close reports that a text in one colour on the other can hardly be read.
func close(a, b colour) bool {
	const near = 12
	for shift := 0; shift <= 16; shift += 8 {
		if d := int(a>>shift&0xff) - int(b>>shift&0xff); d > near || d < -near {
			return false
		}
	}
	return true
}

// box collects what together moves a text out of sight.
type box struct {
	clipped, placed bool // overflow: hidden; position: absolute or fixed
	flat, away      bool // no height or width; far outside
}

// maxDeclarations bounds how many declarations of one element or rule count.
const maxDeclarations = 200

// parseStyle reads declarations: "color: red; display: none".
func parseStyle(s string) style {
	var out style
	var b box
	if strings.Contains(s, "/*") {
		s = dropComments(s)
	}
	n := 0
	for decl := range strings.SplitSeq(s, ";") {
		if n++; n > maxDeclarations {
			break
		}
		name, value, ok := strings.Cut(decl, ":")
		if !ok || len(value) > 1000 {
			continue
		}
		value = strings.ToLower(strings.TrimSpace(value))
		value = strings.TrimSpace(strings.TrimSuffix(value, "!important"))
		out.declare(&b, strings.ToLower(strings.TrimSpace(name)), value)
	}
	if b.flat && b.clipped || b.away && b.placed {
		out.gone = true
	}
	return out
}

func dropComments(s string) string {
	var out strings.Builder
	for {
		before, rest, ok := strings.Cut(s, "/*")
		out.WriteString(before)
		if !ok {
			return out.String()
		}
		_, s, _ = strings.Cut(rest, "*/")
	}
}

// declare takes one declaration.
func (s *style) declare(b *box, name, value string) {
	switch name {
	case "display":
		s.gone = s.gone || value == "none"
	case "mso-hide":
		// Hides in Outlook what others show, so it hides nothing.
	case "visibility":
		s.invisible = yes(value == "hidden" || value == "collapse")
	case "opacity":
		if f, err := strconv.ParseFloat(value, 64); err == nil && f < 0.05 {
			s.gone = true
		}
	case "font-size":
		s.tiny = yes(isTiny(value))
	case "font":
		for piece := range strings.FieldsSeq(value) {
			size, _, _ := strings.Cut(piece, "/")
			if size != "" && (size[0] >= '0' && size[0] <= '9' || size[0] == '.') && strings.TrimRight(size, "0123456789.") != "" {
				s.tiny = yes(isTiny(size))
			}
		}
	case "color":
		s.fg, s.hasFg = parseColour(value), value != "inherit"
	case "background-color", "background":
		s.background(value)
	case "background-image":
		if value != "none" {
			s.bg, s.hasBg = anyColour, true
		}
	case "overflow", "overflow-x", "overflow-y":
		b.clipped = b.clipped || value == "hidden"
	case "position":
		b.placed = value == "absolute" || value == "fixed"
	case "max-height", "height", "max-width", "width":
		if v, ok := pixels(value); ok && v <= 1 {
			b.flat = true
		}
	case "left", "top", "right", "bottom":
		if v, ok := pixels(value); ok && (v <= -300 || v >= 5000) {
			b.away = true
		}
	case "text-indent", "margin-left", "margin-top", "margin":
		if v, ok := pixels(value); ok && v <= -300 {
			s.gone = true
		}
	case "clip":
		b.away = b.away || isNothing(value)
	}
}

// isNothing reports a rectangle of no size: "rect(0, 0, 0, 0)", "rect(1px 1px 1px 1px)".
func isNothing(value string) bool {
	sides, ok := strings.CutPrefix(value, "rect(")
	pieces := strings.FieldsFunc(strings.TrimSuffix(sides, ")"), func(r rune) bool { return r == ',' || r == ' ' })
	for _, p := range pieces {
		v, known := pixels(p)
		ok = ok && known && v <= 1
	}
	return ok && len(pieces) == 4
}

// background takes the shorthand; a picture makes the colour unknown.
func (s *style) background(value string) {
	if strings.Contains(value, "url(") || strings.Contains(value, "gradient") {
		s.bg, s.hasBg = anyColour, true
		return
	}
	if strings.HasPrefix(value, "rgb") {
		s.setBackground(parseColour(value))
		return
	}
	for piece := range strings.FieldsSeq(value) {
		switch piece {
		case "none", "transparent", "inherit", "initial", "repeat", "no-repeat", "repeat-x", "repeat-y", "scroll", "fixed", "top", "left", "right", "bottom", "center":
			continue
		}
		if piece[0] >= '0' && piece[0] <= '9' {
			continue
		}
		s.setBackground(parseColour(piece))
		return
	}
}

func (s *style) setBackground(c colour) {
	if c != transparent {
		s.bg, s.hasBg = c, true
	}
}

func yes(b bool) int8 {
	if b {
		return 1
	}
	return -1
}

// isTiny reports a size of letters that nobody can read.
func isTiny(value string) bool {
	v, ok := pixels(value)
	return ok && v < 2
}

// pixels reads a length; em and per cent are of some sixteen pixels.
func pixels(value string) (float64, bool) {
	value, _, _ = strings.Cut(value, " ")
	number := strings.TrimRight(value, "abcdefghijklmnopqrstuvwxyz%")
	v, err := strconv.ParseFloat(number, 64)
	if err != nil || len(number) > 32 {
		return 0, false
	}
	switch value[len(number):] {
	case "px", "pt", "":
		return v, true
	case "em", "rem", "ex", "ch", "vw", "vh", "cm", "in", "pc":
		return v * 16, true
	case "%":
		return v * 0.16, true
	case "mm":
		return v * 4, true
	}
	return 0, false
}

// transparent lets what lies below shine through.
const transparent colour = -2

// parseColour reads a colour; anyColour for what is not understood.
func parseColour(s string) colour {
	s = strings.TrimSpace(s)
	if c, ok := colours[s]; ok {
		return c
	}
	if hex, ok := strings.CutPrefix(s, "#"); ok {
		return parseHex(hex)
	}
	if rest, ok := strings.CutPrefix(s, "rgb"); ok {
		return parseRGB(strings.Trim(strings.TrimPrefix(rest, "a"), "() "))
	}
	if len(s) == 6 {
		return parseHex(s)
	}
	return anyColour
}

func parseHex(s string) colour {
	switch len(s) {
	case 3, 4:
		s = string([]byte{s[0], s[0], s[1], s[1], s[2], s[2]})
	case 6:
	case 8:
		if s[6:] == "00" {
			return transparent
		}
		s = s[:6]
	default:
		return anyColour
	}
	v, err := strconv.ParseUint(s, 16, 32)
	if err != nil {
		return anyColour
	}
	return colour(v)
}

func parseRGB(s string) colour {
	parts := strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' || r == '/' })
	if len(parts) < 3 {
		return anyColour
	}
	if len(parts) > 3 {
		if a, err := strconv.ParseFloat(strings.TrimSuffix(parts[3], "%"), 64); err == nil && a < 0.05 {
			return transparent
		}
	}
	var c colour
	for _, p := range parts[:3] {
		v, err := strconv.ParseFloat(strings.TrimSuffix(p, "%"), 64)
		if err != nil {
			return anyColour
		}
		if strings.HasSuffix(p, "%") {
			v = v * 255 / 100
		}
		c = c<<8 | colour(min(max(v, 0), 255))
	}
	return c
}

// colours are the names that mail uses.
var colours = map[string]colour{
	"white": 0xffffff, "black": 0, "red": 0xff0000, "green": 0x8000, "blue": 0xff, "yellow": 0xffff00, "gray": 0x808080, "grey": 0x808080, "silver": 0xc0c0c0,
	"navy": 0x80, "maroon": 0x800000, "purple": 0x800080, "olive": 0x808000, "teal": 0x8080, "lime": 0xff00, "aqua": 0xffff, "cyan": 0xffff, "fuchsia": 0xff00ff,
	"magenta": 0xff00ff, "orange": 0xffa500, "pink": 0xffc0cb, "snow": 0xfffafa, "ivory": 0xfffff0, "whitesmoke": 0xf5f5f5, "ghostwhite": 0xf8f8ff,
	"floralwhite": 0xfffaf0, "mintcream": 0xf5fffa, "azure": 0xf0ffff, "aliceblue": 0xf0f8ff, "lightgrey": 0xd3d3d3, "lightgray": 0xd3d3d3, "lightyellow": 0xffffe0,
	"beige": 0xf5f5dc, "darkblue": 0x8b, "darkred": 0x8b0000, "darkgreen": 0x6400, "gold": 0xffd700, "transparent": transparent,
}
