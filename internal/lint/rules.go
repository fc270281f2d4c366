package lint

// Rule is one check with the name that its problems carry.
type Rule struct {
	Name string
	// Why is the reason, printed once when the rule is broken.
	Why   string
	Check func(*Tree) []Problem
}

// Rules returns every rule that holds for the tree.
func Rules() []Rule {
	return []Rule{
		{"imports", "imports point down, so that a package can be read, tested and changed without those above it", Imports},
		{"package-comment", "the package comment is where a reader starts: purpose and invariants", PackageComments},
		{"exported-comment", "an exported name without a sentence makes its user read the code", ExportedComments},
		{"no-init", "work in init happens at a distance and cannot fail properly; main wires everything", NoInit},
		{"blank-import", "a blank import is a registry in disguise", BlankImports},
		{"package-state", "package variables that change couple everything that uses them, tests first", PackageState},
		{"length", "what does not fit on a screen is not one idea", Length},
		{"parameters", "more than five parameters get mixed up; take a struct", Parameters},
		{"no-sleep", "a test that sleeps is slow and still wrong on a busy machine; a server that sleeps cannot be stopped", NoSleep},
		{"fuzz-seeds", "a fuzz target without seeds tests nothing in an ordinary test run", FuzzSeeds},
		{"unfinished", "a note about work left over belongs where work is planned", Unfinished},
		{"calls", "there is a better way in this repository; the text names it", BannedCalls},
		{"error-text", "error texts are joined by colons into one line", ErrorText},
		{"rfc", "a citation is only as good as a reader's chance to find it", Citations},
	}
}
