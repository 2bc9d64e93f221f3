// Package repair repairs a damaged store. It builds a new store next to the old one from
// everything that can be read, and then replaces the old one. It deletes nothing. It does
// not run in a service, and no service may run meanwhile.
package repair
