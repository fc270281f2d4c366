package edit

import (
	"fmt"
	"slices"
	"strings"
)

// context is how many lines that stay are shown around those that change.
const context = 3

// Diff is the unified diff from one text to another, "" where they are the same. The
// names stand in its head. Files with tens of thousands of lines are compared by lines
// that occur once in both, which is enough to be read.
func Diff(oldName, before, newName, after string) string {
	if before == after {
		return ""
	}
	a, b := split(before), split(after)
	var out strings.Builder
	fmt.Fprintf(&out, "--- %s\n+++ %s\n", oldName, newName)
	for _, h := range hunks(changes(a, b), len(a)) {
		h.write(&out, a, b)
	}
	return out.String()
}

// split cuts a text into lines with their ends; a last line without one says so.
func split(text string) []string {
	lines := strings.SplitAfter(text, "\n")
	if last := len(lines) - 1; lines[last] == "" {
		lines = lines[:last]
	} else {
		lines[last] += "\n\\ No newline at end of file\n"
	}
	return lines
}

// edited is a[a0:a1] that became b[b0:b1].
type edited struct{ a0, a1, b0, b1 int }

// changes lists what differs, in order.
func changes(a, b []string) []edited {
	var all []edited
	at := edited{}
	for _, m := range append(matches(a, b), [2]int{len(a), len(b)}) {
		if m[0] > at.a0 || m[1] > at.b0 {
			all = append(all, edited{at.a0, m[0], at.b0, m[1]})
		}
		at = edited{a0: m[0] + 1, b0: m[1] + 1}
	}
	return all
}

// matches pairs the lines that stay: a longest common subsequence where that is cheap,
// else one of lines that occur once.
func matches(a, b []string) [][2]int {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	foot := 0
	for foot < len(a)-head && foot < len(b)-head && a[len(a)-1-foot] == b[len(b)-1-foot] {
		foot++
	}
	var pairs [][2]int
	for i := range head {
		pairs = append(pairs, [2]int{i, i})
	}
	middleA, middleB := a[head:len(a)-foot], b[head:len(b)-foot]
	find := longest
	if len(middleA)*len(middleB) > 1<<22 {
		find = unique
	}
	for _, m := range find(middleA, middleB) {
		pairs = append(pairs, [2]int{m[0] + head, m[1] + head})
	}
	for i := range foot {
		pairs = append(pairs, [2]int{len(a) - foot + i, len(b) - foot + i})
	}
	return pairs
}

func longest(a, b []string) [][2]int { return common(anyOf(a), anyOf(b)) }

// unique pairs the lines that occur once in both and stand in the same order.
func unique(a, b []string) [][2]int {
	inA, inB := occurrences(a), occurrences(b)
	var pairs [][2]int
	for i, line := range a {
		if j := inB[line]; inA[line] > 0 && j > 0 {
			pairs = append(pairs, [2]int{i, j - 1})
		}
	}
	// The longest increasing run of the second numbers, by patience.
	var piles []int
	back := make([]int, len(pairs))
	for i, p := range pairs {
		n, _ := slices.BinarySearchFunc(piles, p[1], func(k, want int) int { return pairs[k][1] - want })
		if back[i] = -1; n > 0 {
			back[i] = piles[n-1]
		}
		piles = append(piles[:n], append([]int{i}, piles[min(n+1, len(piles)):]...)...)
	}
	var run [][2]int
	for i := lastOf(piles); i >= 0; i = back[i] {
		run = append(run, pairs[i])
	}
	slices.Reverse(run)
	return run
}

func lastOf(list []int) int {
	if len(list) == 0 {
		return -1
	}
	return list[len(list)-1]
}

// occurrences maps a line to its number from 1, to a negative one where there are several.
func occurrences(lines []string) map[string]int {
	m := make(map[string]int, len(lines))
	for i, line := range lines {
		if _, again := m[line]; again {
			m[line] = -1
			continue
		}
		m[line] = i + 1
	}
	return m
}

// hunk is changes that are shown together.
type hunk struct {
	edited
	parts []edited
}

// hunks joins changes whose surroundings touch.
func hunks(all []edited, lines int) []hunk {
	var list []hunk
	for _, c := range all {
		lead := min(context, c.a0)
		trail := min(context, lines-c.a1)
		if n := len(list); n > 0 && c.a0-lead <= list[n-1].a1 {
			last := &list[n-1]
			last.parts = append(last.parts, c)
			last.a1, last.b1 = c.a1+trail, c.b1+trail
			continue
		}
		list = append(list, hunk{edited{c.a0 - lead, c.a1 + trail, c.b0 - lead, c.b1 + trail}, []edited{c}})
	}
	return list
}

func (h hunk) write(out *strings.Builder, a, b []string) {
	fmt.Fprintf(out, "@@ -%s +%s @@\n", extent(h.a0, h.a1), extent(h.b0, h.b1))
	at := h.a0
	for _, c := range h.parts {
		mark(out, " ", a[at:c.a0])
		mark(out, "-", a[c.a0:c.a1])
		mark(out, "+", b[c.b0:c.b1])
		at = c.a1
	}
	mark(out, " ", a[at:h.a1])
}

func mark(out *strings.Builder, sign string, lines []string) {
	for _, line := range lines {
		out.WriteString(sign + line)
	}
}

// extent is the lines of a hunk as its head writes them.
func extent(from, to int) string {
	switch to - from {
	case 0:
		return fmt.Sprintf("%d,0", from)
	case 1:
		return fmt.Sprintf("%d", from+1)
	}
	return fmt.Sprintf("%d,%d", from+1, to-from)
}
