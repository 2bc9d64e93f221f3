// Package format1 reads the previous format of a store, in which dead letters, jobs
// and the drain's position are in the control file, and copies them into the tables
// of the current one. An upgrade and a repair use it.
package format1
