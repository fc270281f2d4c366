package weblookup

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Request is the template of a request. "{name}" in URL and Body is a place for a
// value.
type Request struct {
	// URL is http or https. Places may stand behind the host only.
	URL string
	// Method is GET (the default) or POST.
	Method string
	// Body is sent by POST; ContentType is application/x-www-form-urlencoded (the
	// default) or application/json, in which places stand inside of quotes.
	Body, ContentType string
	// Header are further fields, the same for each request: "Authorization".
	Header map[string]string
}

// Query is a Request that was checked. It never changes.
type Query struct {
	method, contentType string
	origin              string // scheme://host[:port]
	path, query, body   string
	encodeBody          func(string) string
	header              http.Header
}

// Errors of Parse and Do about what is asked.
var (
	// ErrValue says that a value cannot be asked about.
	ErrValue = errors.New("a value cannot stand in the request")

	errScheme   = errors.New("want http:// or https:// and a host")
	errUserinfo = errors.New("a login in the URL would show in lists of processes and logs: use a field of the header")
	errFragment = errors.New("a fragment is never sent")
	errBraces   = errors.New("braces that are no place for a value")
	errInHost   = errors.New("a value must not choose the host")
	errNumber   = errors.New("the host is a number: write the address as usual")
	errDots     = errors.New("\".\" and \"..\" in the path")
)

// place is a place for a value.
var place = regexp.MustCompile(`\{([a-z_]+)\}`)

// maxValue is how long a value may be, in bytes.
const maxValue = 4096

// Parse checks a template whose places have these names. The error names
// everything that is wrong.
func Parse(r Request, names ...string) (*Query, error) {
	q := &Query{method: strings.ToUpper(r.Method), header: http.Header{}}
	var errs []error
	if err := q.parseURL(r.URL); err != nil {
		errs = append(errs, fmt.Errorf("url: %w", err))
	}
	if err := q.parseBody(r); err != nil {
		errs = append(errs, err)
	}
	for _, m := range place.FindAllStringSubmatch(r.URL+r.Body, -1) {
		if !slices.Contains(names, m[1]) {
			errs = append(errs, fmt.Errorf("there is no {%s}: want {%s}", m[1], strings.Join(names, "} {")))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Header)) {
		value := r.Header[name]
		if name == "" || strings.ContainsAny(name, " :\r\n") || strings.ContainsAny(value, "\r\n") || strings.EqualFold(name, "host") {
			errs = append(errs, fmt.Errorf("header: %q is no field that can be set", name))
			continue
		}
		q.header.Set(name, value)
	}
	return q, errors.Join(errs...)
}

func (q *Query) parseURL(s string) error {
	if strings.ContainsAny(place.ReplaceAllString(s, ""), "{}") {
		return errBraces
	}
	if strings.Contains(s, "#") {
		return errFragment
	}
	u, err := url.Parse(place.ReplaceAllString(s, "x"))
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "" {
		return errScheme // the error of url.Parse would repeat the URL
	}
	start := strings.Index(s, "://") + 3
	end := len(s)
	if i := strings.IndexAny(s[start:], "/?"); i >= 0 {
		end = start + i
	}
	q.origin = s[:end]
	q.path, q.query, _ = strings.Cut(s[end:], "?")
	switch {
	case place.MatchString(q.origin):
		return errInHost
	case u.User != nil:
		return errUserinfo
	case disguised(u.Hostname()):
		return errNumber
	case dotted(q.path):
		return errDots
	}
	return nil
}

func (q *Query) parseBody(r Request) error {
	if q.method == "" {
		q.method = http.MethodGet
	}
	if q.method == http.MethodGet && r.Body == "" {
		return nil
	}
	if q.method != http.MethodPost {
		return fmt.Errorf("method: want GET without a body, or POST, got %q", r.Method)
	}
	q.body, q.contentType = r.Body, r.ContentType
	if q.contentType == "" {
		q.contentType = "application/x-www-form-urlencoded"
	}
	switch kind, _, err := mime.ParseMediaType(q.contentType); {
	case err == nil && kind == "application/x-www-form-urlencoded":
		q.encodeBody = url.QueryEscape
	case err == nil && kind == "application/json":
		q.encodeBody = jsonText
	default:
		return fmt.Errorf("content_type: want application/x-www-form-urlencoded or application/json, got %q", r.ContentType)
	}
	return nil
}

// jsonText is the inside of a JSON string.
func jsonText(s string) string {
	// A string always has a JSON form: what is not UTF-8 becomes U+FFFD.
	b, _ := json.Marshal(s)
	return string(b[1 : len(b)-1])
}

// dotted reports that a server could leave a directory by the path.
func dotted(path string) bool {
	for segment := range strings.SplitSeq(path, "/") {
		plain := strings.ReplaceAll(strings.ToLower(segment), "%2e", ".")
		if plain == "." || plain == ".." {
			return true
		}
	}
	return false
}

// fill makes the URL and the body of one request.
func (q *Query) fill(values map[string]string) (target, body string, err error) {
	for _, v := range values {
		if len(v) > maxValue {
			return "", "", ErrValue
		}
	}
	put := func(text string, encode func(string) string) string {
		return place.ReplaceAllStringFunc(text, func(p string) string { return encode(values[p[1:len(p)-1]]) })
	}
	path := put(q.path, url.PathEscape)
	if dotted(path) {
		// No encoding keeps servers from taking them for directories.
		return "", "", ErrValue
	}
	target = q.origin + path
	if q.query != "" {
		target += "?" + put(q.query, url.QueryEscape)
	}
	if q.encodeBody != nil {
		body = put(q.body, q.encodeBody)
	}
	return target, body, nil
}
