package config

import (
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gatepost/internal/flow"
	"gatepost/internal/mail"
)

func (v *validator) checkFlows() {
	c := v.cfg
	uniqueNames(v, c.Flows, func(f *Flow) *Name { return &f.Name })
	used := map[Name]bool{}
	for i := range c.Listeners {
		v.checkFlowNames(&c.Listeners[i].Flows, used)
	}
	for i := range c.Domains {
		v.checkFlowNames(&c.Domains[i].Flows, used)
	}
	v.checkFlowNames(&c.Admin.Flows, used)
	for i := range c.Flows {
		f := &c.Flows[i]
		v.checkBlocks(f)
		v.checkFlowKeys(f)
		if f.Name != "" && v.ok(&f.Stage) && !used[f.Name] {
			v.warn(ruleWarnUnusedFlow, f, "no listener and no domain names this flow: it looks at nothing", fmt.Sprintf("write flows = { %s = %q } in a [[listener]]", f.Stage, f.Name))
		}
	}
	v.checkPOPFlows()
}

// checkFlowNames wants that the flows are there and of the right stage, and notes that
// they are used. flows are *Flows or *DomainFlows, whose keys are the stages.
func (v *validator) checkFlowNames(flows any, used map[Name]bool) {
	names := make([]Name, 0, len(v.cfg.Flows))
	for i := range v.cfg.Flows {
		names = append(names, v.cfg.Flows[i].Name)
	}
	table := reflect.ValueOf(flows).Elem()
	for _, k := range keysOf(table.Type()) {
		name := table.Field(k.index).Addr().Interface().(*Name)
		used[*name] = true
		v.named(ruleDanglingFlow, name, "flow", names)
		for i := range v.cfg.Flows {
			f := &v.cfg.Flows[i]
			if *name != "" && f.Name == *name && f.Stage != k.name && f.Stage != "" {
				v.report(ruleWrongStage, name, fmt.Sprintf("the flow %q is one of the stage %q, not %q", f.Name, shorten(f.Stage), k.name), "")
			}
		}
	}
}

// checkFlowKeys refuses keys that flows of other stages have.
func (v *validator) checkFlowKeys(f *Flow) {
	if f.Stage != stageConnect && f.DelayReject && v.ok(&f.Stage) {
		v.report(ruleUnusedKey, &f.DelayReject, fmt.Sprintf("is set, but only a flow of the stage %q can wait for the recipient", stageConnect), "take it out")
	}
	if f.Stage == stageAuth && f.Mode == "observe" {
		v.report(ruleUnusedKey, &f.Mode, "a flow that only observes would let nobody in", "take it out")
	}
}

func (v *validator) checkBlocks(f *Flow) {
	for i := range f.Blocks {
		b := &f.Blocks[i]
		v.checkUse(f, b)
		if b.Params == nil {
			continue
		}
		if j := slices.IndexFunc(f.Blocks[:i], func(before Block) bool { return sameBlock(f.Stage, &before, b) }); j >= 0 && v.readable(b) {
			v.report(ruleDuplicateBlock, &b.Use, fmt.Sprintf("%q stands in this flow a second time", b.Use), fmt.Sprintf("the first is in line %d", v.places[&f.Blocks[j].Use].line))
		}
		v.checkBlock(f, b)
	}
	if f.Stage == stageContent {
		v.checkScores(f)
		v.checkProof(f)
	}
}

// checkUse wants a block that there is, in a flow of its stage.
func (v *validator) checkUse(f *Flow, b *Block) {
	stages := stagesOf(b.Use)
	switch {
	case b.Use == "" || !v.ok(&f.Stage):
	case len(stages) == 0:
		uses := usesAt(f.Stage)
		hint := "there are " + quotedList(uses)
		if meant := closest(b.Use, usesAt("")); meant != "" {
			hint = fmt.Sprintf("did you mean %q?", meant)
		}
		v.report(ruleBadChoice, &b.Use, fmt.Sprintf("there is no block %q", shorten(b.Use)), hint)
	case f.Stage != "" && !slices.Contains(stages, f.Stage):
		hint := "it belongs in a flow of the stage " + quotedList(stages)
		if len(stages) == 1 {
			hint += ", " + stageMoment(stages[0])
		}
		v.report(ruleWrongStage, &b.Use, fmt.Sprintf("a flow of the stage %q can't have the block %q", f.Stage, b.Use), hint)
	}
}

// stageMoment says what is known at a stage.
func stageMoment(stage string) string {
	return map[string]string{
		stageConnect:   "before the client is greeted",
		stageAuth:      "where there is a name and a password",
		stageRecipient: "where HELO, sender and recipient are known",
		stageContent:   "where the message is there",
	}[stage]
}

// sameBlock reports whether the second of two blocks would only do again what
// the first did.
func sameBlock(stage string, a, b *Block) bool {
	if a.Use != b.Use || a.Params == nil {
		return false
	}
	if findBlock(stage, a.Use).repeats {
		return reflect.DeepEqual(a.Params, b.Params)
	}
	return true
}

// readable reports whether all parameters of the block could be read.
func (v *validator) readable(b *Block) bool {
	params := reflect.ValueOf(b.Params).Elem()
	for _, k := range keysOf(params.Type()) {
		if !v.ok(params.Field(k.index).Addr().Interface()) {
			return false
		}
	}
	return true
}

func (v *validator) checkBlock(f *Flow, b *Block) {
	kind := findBlock(f.Stage, b.Use)
	if (b.Use == "score" || kind.stage != stageContent && kind.timeout == 0) && v.isSet(&b.Timeout) {
		v.report(ruleUnusedKey, &b.Timeout, fmt.Sprintf("the block %q takes no time", b.Use), "take it out")
	}
	if kind.stage != stageContent {
		v.checkStageBlock(kind, b)
		return
	}
	if limit := v.cfg.Limits.ScanTimeout; v.isSet(&b.Timeout) && v.ok(&v.cfg.Limits.ScanTimeout) && b.Timeout > limit {
		v.warn(ruleWarnTimeout, &b.Timeout, fmt.Sprintf("is %s, but the whole flow may take %s", formatDuration(b.Timeout), formatDuration(limit)), "make it shorter, or scan_timeout in [limits] longer")
	}
	switch p := b.Params.(type) {
	case *ClamAVBlock:
		if at := &v.cfg.ClamAV.Address; at.IsZero() && v.ok(at) {
			v.report(ruleNoScanner, &b.Use, "there is no virus scanner: [clamav] has no address", `write address = "unix:/run/clamav/clamd.ctl" in [clamav], or take this block out`)
		}
	case *AuthResBlock:
		unique(v, ruleDuplicateElement, p.ARCTrusted)
	case *FiltersBlock:
		v.checkFilterNames(p)
	case *LinksBlock:
		unique(v, ruleDuplicateElement, p.Zones)
	case *RspamdBlock:
		v.secret(&p.PasswordFile, "password")
	case *ContentScriptBlock:
		p.Source = v.script(&p.File, stageContent)
		v.checkIcon(&p.Icon)
	case *ScoreBlock:
		v.checkThresholds(p)
	}
}

// checkThresholds wants that more score has graver consequences.
func (v *validator) checkThresholds(p *ScoreBlock) {
	type threshold struct {
		name string
		at   *float64
	}
	last := threshold{}
	for _, t := range []threshold{{"mark", &p.Mark}, {"quarantine", &p.Quarantine}, {"reject", &p.Reject}} {
		if *t.at == 0 || !v.ok(t.at) {
			continue
		}
		if last.at != nil && *t.at < *last.at {
			v.report(ruleThresholds, t.at, fmt.Sprintf("%s is %s, but %s is %s: the lesser action has the higher score", t.name, number(*t.at), last.name, number(*last.at)), "order them mark, quarantine, reject")
			continue
		}
		last = t
	}
	if p.SubjectTag != "" && p.Mark == 0 && v.ok(&p.Mark) {
		v.report(ruleUnusedKey, &p.SubjectTag, "is set, but no message is marked", "write mark = 5, or take it out")
	}
	if _, err := flow.ParseThen(`subject:"` + p.SubjectTag + `"`); err != nil && p.SubjectTag != "" {
		v.report(ruleBadAction, &p.SubjectTag, strings.TrimPrefix(err.Error(), "subject: "), "")
	}
}

// checkProof finds lists of senders that allow nobody, because no block says who sent a
// message.
func (v *validator) checkProof(f *Flow) {
	if slices.ContainsFunc(f.Blocks, func(b Block) bool { return b.Use == "authres" }) {
		return
	}
	for i := range f.Blocks {
		if p, ok := f.Blocks[i].Params.(*SendersBlock); ok && p.RequireAuth && v.ok(&p.RequireAuth) {
			v.warn(ruleWarnNoProof, &f.Blocks[i].Use, "allows only senders that authres has proven, but there is no block authres", `add { use = "authres" }, or write require_auth = false`)
		}
	}
}

// checkScores finds scores that nothing looks at, and a block score that has
// nothing to look at or nothing to do.
func (v *validator) checkScores(f *Flow) {
	isScore := func(b Block) bool { return b.Use == "score" }
	at := slices.IndexFunc(f.Blocks, isScore)
	for i := range f.Blocks {
		b := &f.Blocks[i]
		if !v.givesScore(b) || i < at {
			continue
		}
		if at < 0 {
			v.warn(ruleWarnNoScore, &b.Use, "gives a score, but no block score looks at it", `add { use = "score", mark = 5, quarantine = 8 } at the end`)
		} else {
			v.warn(ruleWarnNoScore, &b.Use, "gives a score, but the block score stands before it", "move the block score to the end")
		}
	}
	if at < 0 {
		return
	}
	if p, ok := f.Blocks[at].Params.(*ScoreBlock); ok && p.Mark == 0 && p.Quarantine == 0 && p.Reject == 0 && v.ok(&p.Mark, &p.Quarantine, &p.Reject) {
		v.warn(ruleWarnNoScore, &f.Blocks[at].Use, "has no threshold: no score has a consequence", "write mark = 5, quarantine = 8 or the like")
	}
}

// addImplied adds the blocks that every flow has. It comes after the checks,
// because the places of blocks are remembered by their addresses.
func addImplied(flows []Flow) {
	for i := range flows {
		f := &flows[i]
		if f.Stage == stageContent && !slices.ContainsFunc(f.Blocks, func(b Block) bool { return b.Use == "structure" }) {
			var block Block
			b := &binder{places: map[any]*place{}}
			b.table(reflect.ValueOf(&block).Elem(), nil, scope{})
			block.Use, block.Params = "structure", &StructureBlock{}
			b.table(reflect.ValueOf(block.Params).Elem(), nil, scope{})
			at := len(f.Blocks)
			if at > 0 && f.Blocks[at-1].Use == "score" {
				at-- // what it finds is counted
			}
			f.Blocks = slices.Insert(f.Blocks, at, block)
		}
	}
}

// givesScore reports whether a block is there for its score, or for that of a
// filter.
func (v *validator) givesScore(b *Block) bool {
	switch p := b.Params.(type) {
	case nil:
		return false
	case *RspamdBlock:
		return p.OnMatch == mail.ActionDeliver
	case *FiltersBlock:
		// Without names the block has all filters, whether they are for its mail or not.
		return slices.ContainsFunc(v.cfg.Filters, func(f Filter) bool {
			return slices.Contains(p.Names, f.Name) && slices.ContainsFunc(f.Actions, func(a flow.FilterAction) bool { return a.Verb == flow.VerbScore })
		})
	}
	return findBlock(stageContent, b.Use).scores
}

// number writes a score as the file would.
func number(f float64) string { return strconv.FormatFloat(f, 'f', -1, 64) }
