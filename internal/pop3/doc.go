// Package pop3 is the grammar of POP3 as somebody needs it who stands between a
// client and a server: commands, replies and what shape they have, lists of
// capabilities, and the data of multi-line replies.
//
// Invariants:
//   - What a reply looks like follows from the command alone and from its first line:
//     Shape says how much of what a server sends belongs to it.
//   - The data of a multi-line reply is taken and given byte for byte: NUL, 8-bit, bare
//     LF, bare CR. Only its dots are unstuffed and stuffed.
//   - Both count a line from every LF, bare or not, because clients do. What an Unstuffer
//     made of a reply is therefore what a client sees of what a Stuffer makes of that.
//   - Nothing here waits, and nothing grows beyond a limit that the caller gives.
package pop3
