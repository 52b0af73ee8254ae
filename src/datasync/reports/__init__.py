"""Reports: agents say under keys of a store what they applied; others read it there."""
