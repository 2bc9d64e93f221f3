// Package limits bounds the memory for request bodies and responses, for any transport.
// A [Budget] is the memory for all callers, and a [Reservation] is the part of one call.
package limits
