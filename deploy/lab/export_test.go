package lab

var (
	SaveFile    = saveFile
	RestoreFile = restoreFile
)
