package main

import (
	"context"
	"errors"
	"log/slog"

	"gatepost/internal/config"
	"gatepost/internal/mail"
	"gatepost/internal/scan"
	"gatepost/internal/scan/bayes"
	"gatepost/internal/store"
)

// learn tells the statistics what became of a message. It does not wait: what they
// have no time for is not learned.
func (a *app) learn(in *scan.Input, env *mail.Envelope) {
	var verdicts []mail.Verdict
	for i := range env.Recipients {
		if v := env.Recipients[i].Verdict; v != nil {
			verdicts = append(verdicts, *v)
		}
	}
	a.services.reputation.Learn(in, verdicts...)
	a.services.learner.offer(in, env)
}

// learner learns from verdicts, one message at a time and beside the mail.
type learner struct {
	bayes *bayes.Classifier
	log   *slog.Logger
	work  chan lesson
}

// lesson is a message that was decided about.
type lesson struct {
	in      *scan.Input
	verdict mail.Verdict
}

// maxLessons is how many messages wait to be learned; more are left out.
const maxLessons = 64

func newLearner(b *bayes.Classifier, log *slog.Logger) *learner {
	return &learner{bayes: b, log: log, work: make(chan lesson, maxLessons)}
}

// offer gives a message to learn from. Outgoing mail teaches nothing: it is not
// what the filter judges.
func (l *learner) offer(in *scan.Input, env *mail.Envelope) {
	if in.Direction != scan.Inbound || len(env.Recipients) == 0 || env.Recipients[0].Verdict == nil {
		return
	}
	select {
	case l.work <- lesson{in, *env.Recipients[0].Verdict}:
	default:
	}
}

// run learns until ctx ends.
func (l *learner) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-l.work:
			l.learn(ctx, w)
		}
	}
}

func (l *learner) learn(ctx context.Context, w lesson) {
	got, err := l.bayes.Autolearn(ctx, w.in, w.verdict, scoreOfOthers(w.in.Reports))
	id := w.in.Message.Envelope.ID.String()
	switch {
	case err != nil && !errors.Is(err, context.Canceled):
		// The message may be delivered and gone by now, or the database away.
		l.log.Debug("message was not learned", "id", id, "error", err)
	case got.Changed:
		l.log.Info("message learned by itself", "id", id, "spam", got.Spam)
	}
}

// scoreOfOthers is the sum of what all blocks but bayes found.
func scoreOfOthers(reports []scan.Report) float64 {
	sum := 0.0
	for _, r := range reports {
		if r.Use == "bayes" {
			continue
		}
		for _, f := range r.Findings {
			sum += f.Score
		}
	}
	return sum
}

func bayesConfig(cfg *config.Config, s *store.Store, log *slog.Logger) bayes.Config {
	c := bayes.Config{Store: s, Log: log, MinTrained: int64(cfg.Bayes.MinTrained), PerDomain: cfg.Bayes.PerDomain}
	if auto := cfg.Bayes.Autolearn; auto != nil {
		c.Autolearn = &bayes.Autolearn{SpamOver: &auto.SpamOver, HamUnder: &auto.HamUnder}
	}
	return c
}
