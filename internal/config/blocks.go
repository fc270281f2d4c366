package config

import (
	"reflect"
	"slices"
	"time"
)

// blockKind is one value of `use`.
type blockKind struct {
	use    string
	params func() BlockParams
	// timeout is the default where it is not what is left of scan_timeout.
	timeout time.Duration
	// repeats says that a flow may hold several, with different parameters.
	repeats bool
	// scores says that it contributes to the sum of a block score.
	scores bool
}

// blockKinds is the table of blocks, in the order of the reference.
var blockKinds = []blockKind{
	{use: "structure", params: func() BlockParams { return new(StructureBlock) }},
	{use: "authres", params: func() BlockParams { return new(AuthResBlock) }, timeout: 10 * time.Second},
	{use: "filters", params: func() BlockParams { return new(FiltersBlock) }, repeats: true},
	// Its default is the timeout of [clamav].
	{use: "clamav", params: func() BlockParams { return new(ClamAVBlock) }},
	{use: "bayes", params: func() BlockParams { return new(BayesBlock) }, scores: true},
	{use: "reputation", params: func() BlockParams { return new(ReputationBlock) }, scores: true},
	{use: "links", params: func() BlockParams { return new(LinksBlock) }, timeout: 10 * time.Second, scores: true},
	{use: "milter", params: func() BlockParams { return new(MilterBlock) }, timeout: 30 * time.Second, repeats: true},
	{use: "rspamd", params: func() BlockParams { return new(RspamdBlock) }, timeout: 30 * time.Second, repeats: true, scores: true},
	{use: "spamd", params: func() BlockParams { return new(SpamdBlock) }, timeout: 30 * time.Second, repeats: true, scores: true},
	{use: "icap", params: func() BlockParams { return new(ICAPBlock) }, timeout: 30 * time.Second, repeats: true},
	{use: "score", params: func() BlockParams { return new(ScoreBlock) }},
}

func findBlock(use string) *blockKind {
	i := slices.IndexFunc(blockKinds, func(k blockKind) bool { return k.use == use })
	if i < 0 {
		return nil
	}
	return &blockKinds[i]
}

// variant is a table with further keys that depend on one of those that were
// read. A nil result says that they are not known.
type variant interface{ rest() any }

func (x *Block) rest() any {
	kind := findBlock(x.Use)
	if kind == nil {
		return nil
	}
	x.Params = kind.params()
	return x.Params
}

// restOf binds the further keys of a variant and returns them with the others;
// known is false where nobody can say which there are.
func (b *binder) restOf(v reflect.Value, n *node, s scope, keys []key) (all []key, known bool) {
	kind, ok := v.Addr().Interface().(variant)
	if !ok {
		return keys, true
	}
	rest := kind.rest()
	if rest == nil {
		return nil, false
	}
	return slices.Concat(keys, b.keys(reflect.ValueOf(rest).Elem(), n, s)), true
}

// blocksWith lists the blocks that have a parameter of this name.
func blocksWith(name string) []string {
	var found []string
	for _, k := range blockKinds {
		if slices.ContainsFunc(keysOf(reflect.TypeOf(k.params()).Elem()), func(k key) bool { return k.name == name }) {
			found = append(found, k.use)
		}
	}
	return found
}
