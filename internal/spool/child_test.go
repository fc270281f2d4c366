package spool

const childDirEnv = "GATEPOST_SPOOL_CHILD"

func childMain(string) {}
