// Package limits bounds the memory that callers use, for any transport.
package limits
