// Package format1 reads the previous format of a store, in which dead letters, jobs and
// the drain's position are in the control file. It copies them into the tables of the
// current format. Upgrade and repair use it.
package format1
