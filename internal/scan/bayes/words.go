package bayes

import (
	"iter"
	"unicode"
	"unicode/utf8"
)

// Words are this long, in bytes; longer runs are cut into a token for their
// beginning alone, so that random strings do not fill the table.
const (
	minWord = 2
	maxWord = 30
)

// words yields the words of s: runs of letters and digits, with marks that join
// them ("e-mail", "don't", "$9.95"). Scripts that do not put spaces between words
// yield each two neighbouring characters.
func words(s string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := 0; i < len(s); {
			if c := s[i]; c < utf8.RuneSelf && !wordByte[c] {
				i++
				continue
			}
			end, dense := wordEnd(s, i)
			if dense {
				if !yieldPairs(s[i:end], yield) {
					return
				}
			} else if w := trimWord(s[i:end]); len(w) >= minWord && !yield(w) {
				return
			}
			i = max(end, i+1)
		}
	}
}

// Bytes of words: letters, digits, and marks that are trimmed at the ends.
var (
	wordByte = byteSet("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789$'-._!%@&+*#")
	edgeByte = byteSet("'-._@&+*#")
)

func byteSet(s string) (set [256]bool) {
	for i := range len(s) {
		set[s[i]] = true
	}
	return set
}

// wordEnd returns where the run that begins at i ends, and whether it is of a
// script without spaces.
func wordEnd(s string, i int) (end int, dense bool) {
	for j := i; j < len(s); {
		if c := s[j]; c < utf8.RuneSelf {
			if !wordByte[c] || dense {
				return j, dense
			}
			j++
			continue
		}
		r, n := utf8.DecodeRuneInString(s[j:])
		switch {
		case isDense(r):
			if j > i && !dense {
				return j, false
			}
			dense = true
		case dense, !unicode.IsLetter(r) && !unicode.IsDigit(r) && !unicode.Is(unicode.Mn, r) && !isMoney(r):
			return j, dense
		}
		j += n
	}
	return len(s), dense
}

func isMoney(r rune) bool { return unicode.Is(unicode.Sc, r) }

// isDense reports whether the script of r has no spaces between words.
func isDense(r rune) bool {
	return r >= 0x0e00 && (r <= 0x0e7f || // Thai
		r >= 0x3040 && r <= 0x30ff || // Hiragana, Katakana
		r >= 0x3400 && r <= 0x9fff || // Han
		r >= 0xac00 && r <= 0xd7a3 || // Hangul
		r >= 0xf900 && r <= 0xfaff || r >= 0x20000 && r <= 0x323af)
}

// yieldPairs yields every two neighbouring characters of s, or its only one.
func yieldPairs(s string, yield func(string) bool) bool {
	_, first := utf8.DecodeRuneInString(s)
	if first == len(s) {
		return yield(s)
	}
	for i, next := 0, first; next < len(s); {
		_, n := utf8.DecodeRuneInString(s[next:])
		if !yield(s[i : next+n]) {
			return false
		}
		i, next = next, next+n
	}
	return true
}

// trimWord takes the marks from the ends of a word and cuts it to maxWord.
func trimWord(w string) string {
	for w != "" && edgeByte[w[0]] {
		w = w[1:]
	}
	for w != "" && edgeByte[w[len(w)-1]] {
		w = w[:len(w)-1]
	}
	if len(w) <= maxWord {
		return w
	}
	end := maxWord
	for end > 0 && !utf8.RuneStart(w[end]) {
		end--
	}
	return w[:end]
}
