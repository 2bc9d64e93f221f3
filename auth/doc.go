// Package auth decides which calls are allowed, for any transport. It checks tokens,
// host names and web pages of other sites. A transport describes a call with a [Call]
// and calls [Access.Check] before it reads the call's body.
package auth
