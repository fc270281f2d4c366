package admin

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
)

// router is http.ServeMux with errors in our form.
type router struct{ mux *http.ServeMux }

func newRouter() *router {
	r := &router{mux: http.NewServeMux()}
	r.mux.HandleFunc("/", func(w http.ResponseWriter, req *http.Request) {
		fail(w, http.StatusNotFound, "no such path: "+req.URL.Path)
	})
	return r
}

// handle serves one path by one method; GET includes HEAD. A path is added once.
func (r *router) handle(method, path string, h http.HandlerFunc) {
	r.mux.HandleFunc(method+" "+path, h)
	r.mux.HandleFunc(path, func(w http.ResponseWriter, req *http.Request) {
		w.Header().Set("Allow", method)
		fail(w, http.StatusMethodNotAllowed, "use "+method)
	})
}

// ServeHTTP answers one request.
func (r *router) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	h.Set("Content-Security-Policy", "default-src 'none'")
	r.mux.ServeHTTP(w, req)
}

// Failure is the body of every answer that is not a success.
type Failure struct {
	Error string `json:"error"`
}

func fail(w http.ResponseWriter, status int, text string) {
	answer(w, status, Failure{Error: text})
}

// answer writes v as JSON. Its errors are the client's: it went away.
func answer(w http.ResponseWriter, status int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		status, body = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(append(body, '\n'))
}

// decode reads the request's body into v: one JSON value, of known fields only,
// at most maxBodyBytes. It reports whether it worked, and answers if not.
func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	// The type is asked for because no web page can send it to another origin
	// without being asked first.
	if kind, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || kind != "application/json" {
		fail(w, http.StatusUnsupportedMediaType, "Content-Type must be application/json")
		return false
	}
	d := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBodyBytes))
	d.DisallowUnknownFields()
	err := d.Decode(v)
	if err == nil {
		if _, more := d.Token(); !errors.Is(more, io.EOF) {
			err = errors.New("more than one value")
		}
	}
	var tooBig *http.MaxBytesError
	switch {
	case err == nil:
		return true
	case errors.As(err, &tooBig):
		fail(w, http.StatusRequestEntityTooLarge, fmt.Sprintf("the body is larger than %d bytes", tooBig.Limit))
	default:
		fail(w, http.StatusBadRequest, "bad request body: "+err.Error())
	}
	return false
}
