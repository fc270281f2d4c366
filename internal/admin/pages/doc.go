// Package pages is the web administration as browsers see it: pages made on the
// server, with htmx for parts that change, no build step, and nothing that is loaded
// from anywhere else.
//
// To add a page:
//
//  1. Write one file NAME.go with a method on *Site that returns a section: its
//     entries of the navigation and its routes, each with the permission that it
//     needs and, where the handler heeds what the actor may see, its Scope. Add the
//     method to Site.sections. What the page needs from the gateway is a field of
//     Config, an interface of package admin or of this one; nil leaves the page out.
//  2. Write templates/NAME.html, which defines "content", and one block for each part
//     that htmx replaces. {{.Data}} is what the handler gives; .Actor, .CSRF and .Said
//     are there as well. A handler ends with s.show (a whole page), s.part (one block
//     of a template) or s.back (after a form: 303 to a page, with a message).
//  3. A form that changes something posts, and has {{template "csrf" .}} in it; htmx
//     sends the token by itself. Neither onclick nor style: the policy forbids
//     scripts and styles in the page, and with them hx-on and filters of hx-trigger.
//  4. Times are {{when .T}}: the reader's zone is the browser's business. Whatever
//     comes from mail is only ever written through html/template.
//  5. A route that changes something has an Act, its name in the audit log; the
//     handler adds to what with Actor.Note.
//  6. The matrix of routes and roles (matrix_test.go) names each route: add yours.
//
// Invariants:
//   - GET changes nothing. Who may is decided by the route, not by what a page shows.
//   - No page loads from another host; none may be framed but by ourselves where it
//     says so.
//   - A page works without scripts, but for charts and live numbers.
package pages
