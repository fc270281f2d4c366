package mail

// Action is what a verdict does with a message for one recipient.
type Action string

// The actions. The empty Action decides nothing.
const (
	ActionDeliver    Action = "deliver"
	ActionMark       Action = "mark" // deliver, with marks in the header section
	ActionQuarantine Action = "quarantine"
	ActionDiscard    Action = "discard"
	ActionReject     Action = "reject" // 5xx
	ActionDefer      Action = "defer"  // 4xx
)

// Delivers reports whether the message goes on to its recipient.
func (a Action) Delivers() bool { return a == ActionDeliver || a == ActionMark }

// Threat is the kind of thing that a verdict found; the quarantine is sorted by
// it, and it decides who may release.
type Threat string

// The threats. The empty Threat is none.
const (
	ThreatVirus     Threat = "virus"
	ThreatSpam      Threat = "spam"
	ThreatFilter    Threat = "filter"    // a [[filter]] of the administrator
	ThreatUnscanned Threat = "unscanned" // too large, damaged, encrypted, ambiguous, scanner failed
	ThreatPolicy    Threat = "policy"    // DMARC and the like
)

// Verdict is what a flow decided about a message for one recipient, and why.
type Verdict struct {
	Action Action `json:"action"`
	Threat Threat `json:"threat,omitempty"`
	// Block is the block of the flow that decided, "" where none objected; Rule
	// is what in it: a filter, a signature, a threshold.
	Block string `json:"block,omitempty"`
	Rule  string `json:"rule,omitempty"`
	// Reason is one sentence for administrators.
	Reason string  `json:"reason,omitempty"`
	Flow   string  `json:"flow,omitempty"`
	Score  float64 `json:"score"`
	// Reply is the answer for reject and defer; the zero Reply stands for the
	// table's.
	Reply Reply `json:"reply,omitzero"`
	// Fields are header fields to add, "X-Foo: bar", without line end.
	Fields []string `json:"fields,omitempty"`
	// SubjectTag goes in front of the Subject.
	SubjectTag string `json:"subject_tag,omitempty"`
	// Strip are the paths of the parts (mimetree Part.Path) that are replaced by
	// a notice.
	Strip []string `json:"strip,omitempty"`
	// Remove are names of fields of which every instance goes away.
	Remove []string `json:"remove,omitempty"`
	// Transport is where the message goes instead of where the recipient is.
	Transport string `json:"transport,omitempty"`
	// Disclaimer is the name of the text that is put at the end.
	Disclaimer string `json:"disclaimer,omitempty"`
	// Observed is what blocks that only observe would have done, a sentence each.
	Observed []string `json:"observed,omitempty"`
	// Redirect replaces the recipient; Copy gets the message as well.
	Redirect []Address `json:"redirect,omitempty"`
	Copy     []Address `json:"copy,omitempty"`
}
