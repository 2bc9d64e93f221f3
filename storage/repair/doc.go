// Package repair makes a damaged store whole again. It builds a new store beside the
// old one, of all that can be read, and then puts it in its place; nothing is
// deleted. No service runs it, and none may run beside it.
package repair
