// Package http is the REST interface: it decodes, authenticates, calls and
// encodes, and decides nothing else. It declares the [Queue] that it serves.
//
// A request passes through the same steps in the same order: the connection's
// place, the path, the host, the token, the body, the handler, the answer. A
// handler returns a reply or an error; one function writes either. The listener
// opens before there is anything to serve: until [Server.Open] every call but
// health is answered as not ready.
package http
