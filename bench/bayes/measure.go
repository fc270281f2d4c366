package main

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"syscall"
	"time"

	"gatepost/internal/scan/bayes"
)

// measurement is what came of one run.
type measurement struct {
	judged              []judged
	learned             int
	learnTime, learnCPU time.Duration
	testTime, testCPU   time.Duration
	status              bayes.Status
}

// judged is the answer for one message.
type judged struct {
	name  string
	spam  bool
	class string
	sum   float64
}

func (m *measurement) add(o *measurement) {
	m.judged = append(m.judged, o.judged...)
	m.learned += o.learned
	m.learnTime += o.learnTime
	m.learnCPU += o.learnCPU
	m.testTime += o.testTime
	m.testCPU += o.testCPU
	m.status = o.status
}

// rates are the figures that filters are compared by, in percent of the ham or of
// the spam.
type rates struct {
	ham, spam                    int
	hamAsSpam, spamMissed        float64
	hamUnsure, spamUnsure        float64
	area                         float64 // 1-AUC
	classifiedPerProcessorSecond float64
}

func (m *measurement) rates() rates {
	var r rates
	count := map[string]float64{}
	for _, j := range m.judged {
		kind := "ham "
		if j.spam {
			kind = "spam "
			r.spam++
		} else {
			r.ham++
		}
		count[kind+j.class]++
	}
	percent := func(key string, of int) float64 { return 100 * count[key] / float64(max(of, 1)) }
	r.hamAsSpam, r.hamUnsure = percent("ham spam", r.ham), percent("ham unsure", r.ham)
	r.spamMissed, r.spamUnsure = percent("spam ham", r.spam), percent("spam unsure", r.spam)
	r.area = 100 * m.area()
	if m.testCPU > 0 {
		r.classifiedPerProcessorSecond = float64(len(m.judged)) / m.testCPU.Seconds()
	}
	return r
}

// area is how likely a ham looks more like spam than a spam does.
func (m *measurement) area() float64 {
	list := slices.Clone(m.judged)
	slices.SortFunc(list, func(a, b judged) int { return cmp.Compare(a.sum, b.sum) })
	var wrong, ham, spam float64
	for i := 0; i < len(list); {
		var h, s float64
		j := i
		for ; j < len(list) && list[j].sum == list[i].sum; j++ {
			if list[j].spam {
				s++
			} else {
				h++
			}
		}
		// Every ham that comes later looks more like spam than these.
		wrong += h*spam + h*s/2
		ham, spam = ham+h, spam+s
		i = j
	}
	if ham == 0 || spam == 0 {
		return 0
	}
	return wrong / (ham * spam)
}

func (m *measurement) print(w io.Writer) error {
	r := m.rates()
	_, err := fmt.Fprintf(w, `learned     %d messages in %.1f s (%.1f s of CPU), %d tokens, %.1f MB on disk, %.1f MB in memory
classified  %d ham, %d spam in %.1f s (%.1f s of CPU)

| ham called spam %% | spam missed %% | unsure ham/spam %% | (1-AUC) %% | classified per CPU-second |
|---|---|---|---|---|
| %.3f | %.2f | %.2f / %.2f | %.4f | %.0f |
`,
		m.learned, m.learnTime.Seconds(), m.learnCPU.Seconds(), m.status.Tokens, float64(m.status.Bytes)/1e6, float64(m.status.MemoryBytes)/1e6,
		r.ham, r.spam, m.testTime.Seconds(), m.testCPU.Seconds(),
		r.hamAsSpam, r.spamMissed, r.hamUnsure, r.spamUnsure, r.area, r.classifiedPerProcessorSecond)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "\nhighest sums of ham %s\nlowest sums of spam %s\n", m.extremes(false), m.extremes(true))
	return err
}

// extremes lists the sums of the messages that are hardest to tell: the thresholds
// have to lie beyond them.
func (m *measurement) extremes(spam bool) string {
	var sums []float64
	for _, j := range m.judged {
		if j.spam == spam {
			sums = append(sums, j.sum)
		}
	}
	slices.Sort(sums)
	if !spam {
		slices.Reverse(sums)
	}
	return fmt.Sprintf("%.1f", sums[:min(10, len(sums))])
}

// processorTime is what this process used so far, on all cores.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
