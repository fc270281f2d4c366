package config

import (
	"reflect"
	"slices"
	"time"
)

// The stages of flows.
const (
	stageConnect   = "connect"
	stageAuth      = "auth"
	stageRecipient = "recipient"
	stageContent   = "content"
)

// blockKind is one value of `use` at one stage.
type blockKind struct {
	stage  string
	use    string
	params func() BlockParams
	// timeout is the default; 0 at content is what is left of scan_timeout, and before
	// content that the block takes no time.
	timeout time.Duration
	// repeats says that a flow may hold several, with different parameters.
	repeats bool
	// scores says that it contributes to the sum of a block score.
	scores bool
	// mute says that the block decides nothing, so that there are no StageActs.
	mute bool
}

// blockKinds is the table of blocks, in the order of the reference.
var blockKinds = []blockKind{
	{stage: stageConnect, use: "access", params: func() BlockParams { return new(AccessBlock) }, timeout: 3 * time.Second, repeats: true},
	{stage: stageConnect, use: "trust", params: func() BlockParams { return new(TrustBlock) }, mute: true},
	{stage: stageConnect, use: "rate", params: func() BlockParams { return new(RateBlock) }, repeats: true},
	{stage: stageConnect, use: "concurrency", params: func() BlockParams { return new(ConcurrencyBlock) }, repeats: true},
	{stage: stageConnect, use: "pregreet", params: func() BlockParams { return new(PregreetBlock) }},
	{stage: stageConnect, use: "dnsbl", params: func() BlockParams { return new(DNSBLBlock) }, timeout: 5 * time.Second, repeats: true},
	{stage: stageConnect, use: "reputation", params: func() BlockParams { return new(ClientReputationBlock) }, timeout: 2 * time.Second},
	{stage: stageConnect, use: "tarpit", params: func() BlockParams { return new(TarpitBlock) }, repeats: true, mute: true},
	{stage: stageConnect, use: "bandwidth", params: func() BlockParams { return new(BandwidthBlock) }, repeats: true, mute: true},
	{stage: stageConnect, use: "script", params: func() BlockParams { return new(ScriptBlock) }, timeout: 10 * time.Second, repeats: true},

	{stage: stageAuth, use: "auth-file", params: func() BlockParams { return new(AuthFileBlock) }, timeout: 10 * time.Second, repeats: true, mute: true},
	{stage: stageAuth, use: "auth-smtp", params: func() BlockParams { return new(AuthSMTPBlock) }, timeout: 20 * time.Second, repeats: true, mute: true},
	{stage: stageAuth, use: "auth-ldap", params: func() BlockParams { return new(AuthLDAPBlock) }, timeout: 10 * time.Second, repeats: true, mute: true},
	{stage: stageAuth, use: "auth-http", params: func() BlockParams { return new(AuthHTTPBlock) }, timeout: 10 * time.Second, repeats: true, mute: true},
	{stage: stageAuth, use: "script", params: func() BlockParams { return new(ScriptBlock) }, timeout: 10 * time.Second, repeats: true, mute: true},

	{stage: stageRecipient, use: "helo", params: func() BlockParams { return new(HeloBlock) }, timeout: 5 * time.Second},
	{stage: stageRecipient, use: "spf", params: func() BlockParams { return new(SPFBlock) }, timeout: 10 * time.Second},
	{stage: stageRecipient, use: "sender-domain", params: func() BlockParams { return new(SenderDomainBlock) }, timeout: 5 * time.Second},
	{stage: stageRecipient, use: "own-domain-spoof", params: func() BlockParams { return new(OwnDomainSpoofBlock) }},
	{stage: stageRecipient, use: "rate", params: func() BlockParams { return new(RateBlock) }, repeats: true},
	{stage: stageRecipient, use: "harvest", params: func() BlockParams { return new(HarvestBlock) }},
	{stage: stageRecipient, use: "verify-sender", params: func() BlockParams { return new(VerifySenderBlock) }, timeout: 10 * time.Second},
	{stage: stageRecipient, use: "verify-recipient", params: func() BlockParams { return new(VerifyRecipientBlock) }, timeout: 10 * time.Second},
	{stage: stageRecipient, use: "greylist", params: func() BlockParams { return new(GreylistBlock) }, timeout: 2 * time.Second},
	{stage: stageRecipient, use: "script", params: func() BlockParams { return new(ScriptBlock) }, timeout: 10 * time.Second, repeats: true},

	{stage: stageContent, use: "structure", params: func() BlockParams { return new(StructureBlock) }},
	{stage: stageContent, use: "authres", params: func() BlockParams { return new(AuthResBlock) }, timeout: 10 * time.Second},
	{stage: stageContent, use: "filters", params: func() BlockParams { return new(FiltersBlock) }, repeats: true},
	{stage: stageContent, use: "senders", params: func() BlockParams { return new(SendersBlock) }, timeout: 2 * time.Second},
	// Its default is the timeout of [clamav].
	{stage: stageContent, use: "clamav", params: func() BlockParams { return new(ClamAVBlock) }},
	{stage: stageContent, use: "bayes", params: func() BlockParams { return new(BayesBlock) }, scores: true},
	{stage: stageContent, use: "reputation", params: func() BlockParams { return new(ReputationBlock) }, scores: true},
	{stage: stageContent, use: "links", params: func() BlockParams { return new(LinksBlock) }, timeout: 10 * time.Second, scores: true},
	{stage: stageContent, use: "milter", params: func() BlockParams { return new(MilterBlock) }, timeout: 30 * time.Second, repeats: true},
	{stage: stageContent, use: "rspamd", params: func() BlockParams { return new(RspamdBlock) }, timeout: 30 * time.Second, repeats: true, scores: true},
	{stage: stageContent, use: "spamd", params: func() BlockParams { return new(SpamdBlock) }, timeout: 30 * time.Second, repeats: true, scores: true},
	{stage: stageContent, use: "icap", params: func() BlockParams { return new(ICAPBlock) }, timeout: 30 * time.Second, repeats: true},
	{stage: stageContent, use: "script", params: func() BlockParams { return new(ContentScriptBlock) }, timeout: 30 * time.Second, repeats: true},
	{stage: stageContent, use: "score", params: func() BlockParams { return new(ScoreBlock) }},
}

// acts reports whether the block has StageActs.
func (k *blockKind) acts() bool {
	return !k.mute && (k.stage == stageConnect || k.stage == stageRecipient)
}

// findBlock returns the kind of a block at a stage. Where the stage has no such block,
// or is not known, it is that of another one, so that its parameters can be read.
func findBlock(stage, use string) *blockKind {
	i := slices.IndexFunc(blockKinds, func(k blockKind) bool { return k.use == use && k.stage == stage })
	if i < 0 {
		i = slices.IndexFunc(blockKinds, func(k blockKind) bool { return k.use == use })
	}
	if i < 0 {
		return nil
	}
	return &blockKinds[i]
}

// usesAt lists the blocks of a stage, or of all of them.
func usesAt(stage string) []string {
	var uses []string
	for _, k := range blockKinds {
		if (stage == "" || k.stage == stage) && !slices.Contains(uses, k.use) {
			uses = append(uses, k.use)
		}
	}
	return uses
}

// stagesOf lists the stages that have a block.
func stagesOf(use string) []string {
	var stages []string
	for _, k := range blockKinds {
		if k.use == use {
			stages = append(stages, k.stage)
		}
	}
	return stages
}

// variant is a table with further keys that depend on one of those that were
// read, and on the stage of the flow that it is in. No result says that they are not
// known.
type variant interface{ rest(stage string) []any }

func (x *Block) rest(stage string) []any {
	kind := findBlock(stage, x.Use)
	if kind == nil {
		return nil
	}
	x.Params = kind.params()
	if !kind.acts() {
		return []any{x.Params}
	}
	x.Acts = new(StageActs)
	return []any{x.Params, x.Acts}
}

// restOf binds the further keys of a variant and returns them with the others;
// known is false where nobody can say which there are.
func (b *binder) restOf(v reflect.Value, n *node, s scope, keys []key) (all []key, known bool) {
	kind, ok := v.Addr().Interface().(variant)
	if !ok {
		return keys, true
	}
	rest := kind.rest(b.stage)
	for _, part := range rest {
		keys = slices.Concat(keys, b.keys(reflect.ValueOf(part).Elem(), n, s))
	}
	return keys, len(rest) > 0
}

// blocksWith lists the blocks of a stage that have a parameter of this name.
func blocksWith(stage, name string) []string {
	var found []string
	for _, k := range blockKinds {
		if stage != "" && k.stage != stage {
			continue
		}
		if slices.ContainsFunc(keysOf(reflect.TypeOf(k.params()).Elem()), func(k key) bool { return k.name == name }) && !slices.Contains(found, k.use) {
			found = append(found, k.use)
		}
	}
	return found
}
