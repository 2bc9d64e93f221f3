// Package limits bounds what callers may use, for any transport. A [Budget] is the memory
// for the bodies of requests and responses of all callers, and a [Reservation] is the part
// of one call. [Callers] bounds what one caller may hold of everything else, and [Failures]
// the failed logins of an address.
package limits
