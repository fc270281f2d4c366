package filter

import (
	"context"
	"errors"
	"strings"

	"gatepost/internal/message/textview"
	"gatepost/internal/smtp"
)

// bodyCondition looks at what a reader sees of each text, in every reading.
func bodyCondition(list []*expr) condition {
	return condition{cost: costText, test: func(ctx context.Context, m *material) (answer, error) {
		view, err := m.in.Text(ctx)
		if err != nil {
			return answer{}, err
		}
		for i := range view.Texts {
			t := &view.Texts[i]
			match, ok, err := findAny(ctx, list, t.Shown)
			if err != nil {
				return answer{}, err
			}
			if ok {
				return yes("body matched " + quote(match) + " in part " + t.Part), nil
			}
		}
		return answer{}, nil
	}}
}

// urlList is the values of url: expressions on the whole address, and the
// domains of lists, each with all below it.
type urlList struct {
	exprs   []*expr
	domains hostList
}

func (c *compiler) url(path string, v any) condition {
	l := &urlList{}
	for _, v := range c.values(path, v) {
		if v.where == "" {
			if e := c.expr(path, v, v.text, false); e != nil {
				l.exprs = append(l.exprs, e)
			}
			continue
		}
		domain, err := smtp.CanonicalDomain(strings.TrimPrefix(v.text, "."))
		if err != nil {
			c.failValue(path, v, errors.New("not a domain"))
			continue
		}
		put(&l.domains.under, domain)
	}
	return condition{cost: costText, test: func(ctx context.Context, m *material) (answer, error) {
		view, err := m.in.Text(ctx)
		if err != nil {
			return answer{}, err
		}
		for i := range view.URLs {
			if a, err := l.match(ctx, view.URLs[i].Clean, &view.URLs[i]); err != nil || a.who.all {
				return a, err
			}
		}
		return l.documents(ctx, m)
	}}
}

// documents looks at the links in attached documents.
func (l *urlList) documents(ctx context.Context, m *material) (answer, error) {
	files, err := m.in.Files(ctx)
	if err != nil {
		return answer{}, err
	}
	for i := range files.Links {
		u := files.Links[i].URL
		if a, err := l.match(ctx, u, &textview.URL{Host: hostOf(u)}); err != nil || a.who.all {
			return a, err
		}
	}
	return answer{}, nil
}

func (l *urlList) match(ctx context.Context, clean string, u *textview.URL) (answer, error) {
	if l.domains.lookup(strings.TrimSuffix(u.Host, ".")) {
		return yes("url matched " + quote(u.Host) + " in " + quote(clean)), nil
	}
	match, ok, err := findAny(ctx, l.exprs, clean)
	if !ok || err != nil {
		return answer{}, err
	}
	return yes(found("url", match, clean)), nil
}

// hostOf returns the host of a link in a document, lower case, "" where it has
// none. Package links looks closer; this is for lists of domains.
func hostOf(link string) string {
	_, rest, ok := strings.Cut(link, "://")
	if !ok {
		return ""
	}
	if i := strings.IndexAny(rest, `/\?#`); i >= 0 {
		rest = rest[:i]
	}
	_, rest, _ = cutLast(rest, "@")
	host, _, _ := strings.Cut(rest, ":")
	domain, err := smtp.CanonicalDomain(host)
	if err != nil {
		return ""
	}
	return domain
}
