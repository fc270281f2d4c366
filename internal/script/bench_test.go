package script_test

import (
	"testing"

	"gatepost/internal/script"
)

// fifteenLines is what an administrator writes for RCPT.
const fifteenLines = `
BLOCKED = ["spammer.example", "junk.example"]
VIPS = {"ceo@example.com": True, "cfo@example.com": True}

def recipient(s):
    sender, rcpt = s.envelope.sender, s.envelope.recipient
    d = domain(sender)
    if d in BLOCKED or d.endswith(".invalid"):
        reject("Not wanted here")
    if s.trusted or s.user:
        accept()
    if not s.tls and in_network(s.client.address, ["203.0.113.0/24", "198.51.100.0/24"]):
        defer("Use TLS")
    if rcpt in VIPS and s.found("dnsbl"):
        score(2.5, "listed client writes to a vip")
    if s.helo.lower() == d or s.client.name.endswith("." + d):
        score(-0.5, "helo fits")
    for f in s.findings:
        if f.module == "spf" and f.result == "match":
            reject("SPF")
    if s.score > 8:
        reject("Too many points")
    echo("passed", sender, rcpt)
`

func BenchmarkRecipientScript(b *testing.B) {
	p := compile(b, fifteenLines)
	in := visit(b)
	if r := p.Run(b.Context(), in); r.Failed != nil || len(r.Log) != 1 {
		b.Fatalf("%+v", r)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Run(b.Context(), in)
	}
}

func BenchmarkRecipientScriptThatRejects(b *testing.B) {
	p := compile(b, fifteenLines)
	in := visit(b)
	in.Envelope.Sender = address(b, "a@junk.example")
	if r := p.Run(b.Context(), in); r.Verb != script.Reject {
		b.Fatalf("%+v", r)
	}
	b.ReportAllocs()
	for b.Loop() {
		p.Run(b.Context(), in)
	}
}

func BenchmarkManySessionsAtOnce(b *testing.B) {
	p := compile(b, fifteenLines)
	in := visit(b)
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			p.Run(b.Context(), in)
		}
	})
}

func BenchmarkCompile(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		compile(b, fifteenLines)
	}
}
