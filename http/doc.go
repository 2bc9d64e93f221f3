// Package http is the REST interface. It decodes requests, authenticates them, calls the
// backend and encodes the results, and has no other logic. It declares the interfaces of
// the backend, such as [Queue].
//
// Every request passes the same steps in the same order: the path, the limit of
// connections, the host, the token, the handler, which reads the body, and the response.
// A handler returns a response or an error, and [Server.write] writes either. The
// listener opens before the backend is available: until [Server.Open], every call that
// needs the backend returns not_ready.
package http
