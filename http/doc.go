// Package http is the REST interface. It authenticates and decodes requests, calls the
// services of [Backend] (the queues, the dead letters, the jobs; not Django) and encodes the
// results. It has no other logic. It declares the interfaces of these services, such as
// [Queue].
//
// Every request passes the same checks in the same order: path, host, token, limit of
// connections. A refusal does not wait for the body. Then its handler reads the body and returns a response or an error, and
// [Server.write] writes either. The listener opens before the services are available: until
// [Server.Open], every call that needs them returns not_ready.
package http
