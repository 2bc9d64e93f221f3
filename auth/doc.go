// Package auth decides which calls are allowed, for any transport. It refuses unknown
// tokens, unknown host names and calls from web pages of other sites. A transport
// describes a call with a [Call], and calls [Access.Check] before it reads the body.
package auth
