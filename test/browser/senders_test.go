package browser_test

import (
	"strings"
	"testing"

	"gatepost/test/browser"
)

// TestSendersAreAllowedAndBlockedByClicking: from the page of a held message, and on the
// page of the lists, where what was chosen is removed again.
func TestSendersAreAllowedAndBlockedByClicking(t *testing.T) {
	_, _, b := filled(t)
	b.Go("/senders")
	b.See("Nobody is on a list")
	b.Go("/quarantine?sender=eve")
	b.Press("[data-rows] a")
	b.Press("form[action='/senders'] button[value=block]")
	b.See("Blocked.")
	id := strings.TrimPrefix(b.Path(), "/quarantine/")
	look(b, "/quarantine/"+id, "senders-message")
	b.Go("/messages/" + id)
	b.Press("form[action='/senders'] button[value=allow]")
	b.See("Allowed.")
	b.Shot("senders-history")
	b.Go("/quarantine?sender=eve")
	b.Click("[name=id]")
	b.Press("button[value=block]")
	b.See("Blocked.")
	b.Go("/senders")
	b.See("ann@in.example")
	b.Click(".card summary")
	b.Fill("#pattern", "@shop.example\nnews@friend.example")
	b.Fill("#owner", "everybody")
	b.Fill(".card #note", "our <b>partners</b>")
	b.Press(".card button[value=allow]")
	b.See("our <b>partners</b>")
	look(b, "/senders", "senders")
	b.Expect("status of 422")
	b.Go("/senders")
	b.Click(".card summary")
	b.Fill("#pattern", "nothing")
	b.Press(".card button[value=block]")
	b.See("a sender is an address")
	b.Go("/senders?kind=allow")
	if n := browser.Eval[int](b, "document.querySelectorAll('[data-rows] tr').length"); n != 2 {
		t.Errorf("%d are allowed", n)
	}
	b.Go("/senders?text=eve")
	browser.Eval[bool](b, "(window.confirm = () => true)()")
	b.Click("[name=entry]")
	b.Press("form[action='/senders/remove'] .danger")
	b.See("Taken off the list.")
	b.Go("/senders?text=eve")
	b.See("Nothing fits this search")
}
